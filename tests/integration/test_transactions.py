"""Submissions inside transactions of the caller's own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession

from agent_service.domain.request import Request
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted
from agent_service.store import Store
from tests.support.worker_tools import DEADLINE_SECONDS

ONE_STEP = {"service": "generation", "input": "hello"}
Client = AsyncMongoClient[dict[str, Any]]


@pytest.fixture
async def client(mongodb_uri: str) -> AsyncIterator[Client]:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client


async def test_duplicates_in_two_transactions_at_once_end_with_one_request_for_both(
    client: Client, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(client[database_name])
    await store.prepare()
    requests = RequestService(store)
    look_up, looked = store.requests.by_idempotency_key, asyncio.Barrier(2)
    tries = 0

    async def look_up_together(*args: Any, **options: Any) -> Request | None:
        nonlocal tries
        tries += 1
        found = await look_up(*args, **options)
        if tries <= 2:
            # Neither goes on before both have seen that the key is free.
            await looked.wait()
        return found

    async def submit_in_transaction() -> Accepted:
        async def submit(session: AsyncClientSession) -> Accepted:
            accepted = await requests.submit(ONE_STEP, session=session, idempotency_key="key")
            await client[database_name].orders.insert_one({"request": accepted.request.id}, session=session)
            return accepted

        async with client.start_session() as session:
            return await session.with_transaction(submit)

    monkeypatch.setattr(store.requests, "by_idempotency_key", look_up_together)
    async with asyncio.timeout(DEADLINE_SECONDS):
        first, second = await asyncio.gather(submit_in_transaction(), submit_in_transaction())
    assert first.request.id == second.request.id
    assert sorted([first.replayed, second.replayed]) == [False, True]
    assert tries > 2
    database = client[database_name]
    assert await database.requests.distinct("_id") == [first.request.id]
    assert await database.contexts.count_documents({}) == 1
    # The caller's own writes of both transactions were committed, once each.
    orders = await database.orders.find().to_list()
    assert [order["request"] for order in orders] == [first.request.id] * 2
    await store.close()
