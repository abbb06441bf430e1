"""Whichever write a process dies at while a request ends, its callback is there afterwards, once."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.testing.databases import empty_database
from tests.support.callbacks import CALLBACK, callback_of, requests_with_callbacks
from tests.support.crashing import Crash, crash_at_write
from tests.support.hand_worker import claim, end, success, work_off
from tests.support.preparing import Prepare
from tests.support.rescuers import SHORT_LEASE, repair
from tests.support.submissions import CHAIN
from tests.support.worker_tools import Raw

ONE_STEP: Mapping[str, Any] = {"service": "analysis", "input": {}}
KEY = "the same key every time"


async def submit(requests: RequestService, body: Mapping[str, Any]) -> str:
    accepted = await requests.submit({**body, "callback": CALLBACK}, idempotency_key=KEY)
    return accepted.request.id


async def live(store: Store, body: Mapping[str, Any], end_as: str) -> None:
    """One life of a process: it takes the request, ends it, and delivers its callback."""
    requests, contexts = requests_with_callbacks(store), ContextManager(store)
    request_id = await submit(requests, body)
    if end_as == "cancelled":
        await requests.cancel(request_id)
    await work_off(contexts, failing=("a", "analysis") if end_as == "failed" else (), lease=SHORT_LEASE)
    for delivery in await claim(contexts, "callback", lease=SHORT_LEASE):
        await end(contexts, delivery, success(contexts, delivery))


@pytest.mark.parametrize("applied", [False, True], ids=["not sent", "applied"])
@pytest.mark.parametrize(
    ("body", "end_as"),
    [
        pytest.param(ONE_STEP, "completed", id="one step completes"),
        pytest.param(CHAIN, "failed", id="one of two steps fails", marks=pytest.mark.exhaustive),
        pytest.param(CHAIN, "cancelled", id="two steps are cancelled", marks=pytest.mark.exhaustive),
    ],
)
async def test_a_crash_at_any_write_loses_no_callback_and_makes_no_second_one(
    mongodb_uri: str, raw: Raw, prepared: Prepare, body: Mapping[str, Any], end_as: str, applied: bool
) -> None:
    at, crashed = 0, True
    delivered = 0
    while crashed:
        async with Store.connect(mongodb_uri, database=raw.name) as store:
            await prepared(store)
            with crash_at_write(at, applied=applied) as writes, suppress(Crash):
                await live(store, body, end_as)
            crashed = writes.crashed
        async with Store.connect(mongodb_uri, database=raw.name) as store:
            await prepared(store)
            request_id = await submit(requests_with_callbacks(store), body)
            failing = ("a", "analysis") if end_as == "failed" else ()
            work = partial(work_off, failing=failing, lease=SHORT_LEASE)
            view = await repair(store, request_id, work=work)
            stored = await callback_of(raw, request_id)
            assert stored["input"]["status"] == view.status.value, f"after a crash at write {at}"
            assert stored["expires_at"] > stored["deadline_at"]
            assert stored["settled"] is (True if stored["status"] == "completed" else None)
            delivered += stored["status"] == "completed"
        await empty_database(raw)
        at += 1
    # Submitting takes three writes, an end at least four, and the callback two more at least.
    assert at > 3 + 4 + 2
    assert delivered >= 1
