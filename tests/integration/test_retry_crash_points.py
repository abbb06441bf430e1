"""Whichever write a process dies at while it retries a request, one retry comes of it, and that one ends."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.request import RequestStatus
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.request_service import RequestService, RequestView
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.support.crashing import Crash, crash_at_write
from tests.support.hand_worker import work_off
from tests.support.waiting import NO_GRACE

DIAMOND = {
    "steps": [
        {"name": "top", "service": "generation", "input": {}},
        {"name": "left", "service": "analysis", "input": "{{ steps.top.output.text }}", "after": ["top"]},
        {"name": "right", "service": "analysis", "input": {}, "after": ["top"]},
        {"name": "bottom", "service": "communication", "input": {}, "after": ["left", "right"]},
    ]
}
KEY = "the same key every time"
#: Ends at once, so that a crashed worker's contexts can be taken back without waiting.
SHORT = timedelta(milliseconds=1)


async def sweep_until_ended(store: Store, request_id: str) -> RequestView:
    """What other processes do: the rescuer sweeps, workers work."""
    contexts, requests = ContextManager(store), RequestService(store)
    backoff = RetryPolicy(base=timedelta(0))
    rescuer = Rescuer(store, contexts, lease=SHORT, grace=NO_GRACE, backoff=backoff)
    async with asyncio.timeout(30):
        while True:
            await rescuer.sweep()
            await store.schedule.promote(contexts.now())
            await work_off(contexts, lease=SHORT)
            view = await requests.get(request_id)
            if view.status.ended and all(context.settled for context in view.contexts):
                return view


@pytest.mark.parametrize("applied", [False, True], ids=["not sent", "applied"])
@pytest.mark.parametrize("expired", [False, True], ids=["original there", "original expired"])
async def test_a_crash_at_any_write_of_a_retry_leaves_one_that_ends(
    mongodb_uri: str, database_name: str, expired: bool, applied: bool
) -> None:
    at, crashed = 0, True
    while crashed:
        name = f"{database_name}_{at}"
        async with (
            AsyncMongoClient[dict[str, Any]](mongodb_uri) as client,
            Store.connect(mongodb_uri, database=name) as store,
        ):
            await store.prepare()
            requests = RequestService(store)
            old_id = (await requests.submit(DIAMOND)).request.id
            await work_off(ContextManager(store), failing=("left",))
            with crash_at_write(at, applied=applied) as writes, suppress(Crash):
                await requests.retry(old_id, idempotency_key=KEY)
            crashed = writes.crashed
            retries = client[name]["requests"]
            left = await retries.distinct("_id", {"retry_of": old_id})
            if expired:
                await client[name]["contexts"].delete_many({"request_id": old_id})
            if left:
                # Nobody asks again: the rescuer does it alone.
                assert_ended(await sweep_until_ended(store, left[0]), at, expired=expired)
            again = await RequestService(store).retry(old_id, idempotency_key=KEY)
            assert again.replayed == bool(left)
            assert_ended(await sweep_until_ended(store, again.request.id), at, expired=expired)
            assert await retries.count_documents({"retry_of": old_id}) == 1, f"after a crash at write {at}"
            await store.drop()
        at += 1
    # The request, its contexts, and that it is planned.
    assert at > 3


def assert_ended(view: RequestView, at: int, *, expired: bool) -> None:
    what = f"after a crash at write {at}"
    statuses = {context.step: context.status for context in view.contexts}
    if expired and ContextStatus.FAILED in statuses.values():
        assert view.status is RequestStatus.FAILED, what
        codes = {context.error.code for context in view.contexts if context.error}
        assert codes == {"original_expired", "dependency_not_completed"}, what
        return
    assert set(statuses.values()) == {ContextStatus.COMPLETED}, what
    assert view.status is RequestStatus.COMPLETED, what
    attempts = {context.step: context.attempt for context in view.contexts}
    assert attempts == {"top": 0, "left": 1, "right": 0, "bottom": 1}, what
    assert all(context.expires_at is not None for context in view.contexts)
