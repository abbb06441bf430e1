"""Many claimers at one queue: nobody leaves empty-handed while there is work, and nothing is done twice."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.context_manager import ContextManager
from agent_service.store import Store
from agent_service.workers.claimer import Claimer
from tests.support.contexts import many_contexts
from tests.support.worker_tools import Raw

CLAIMERS = 16
BATCH = 10
PENDING = 500
LEASE = timedelta(minutes=1)


@pytest.mark.parametrize("stores", [1, CLAIMERS], ids=["one process", "a process each"])
async def test_no_claim_comes_back_empty_while_anything_is_pending_and_nothing_is_claimed_twice(
    mongodb_uri: str, store: Store, raw: Raw, database_name: str, stores: int
) -> None:
    await store.contexts.insert(many_contexts(PENDING))
    claimed: Counter[str] = Counter()
    left_behind: list[int] = []

    async def claim_until_empty(own: Store) -> None:
        claimer = Claimer(
            ContextManager(own), service="generation", queues=("default",), worker_id="worker", lease=LEASE
        )
        while contexts := (await claimer.claim(BATCH)).contexts:
            assert len(contexts) <= BATCH
            claimed.update(context.id for context in contexts)
        # Nothing becomes pending here, so what is pending now was so when the claim came back.
        left_behind.append(await raw.contexts.count_documents({"status": "pending"}))

    clients = [AsyncMongoClient[dict[str, Any]](mongodb_uri) for _ in range(stores)]
    try:
        own = [Store(client[database_name]) for client in clients]
        await asyncio.gather(*(claim_until_empty(own[number % stores]) for number in range(CLAIMERS)))
    finally:
        for client in clients:
            await client.close()
    assert left_behind == [0] * CLAIMERS
    assert len(claimed) == PENDING
    assert set(claimed.values()) == {1}
    attempts = await raw.contexts.distinct("attempt", {"status": "running"})
    assert attempts == [1]
