"""A document that somebody else damaged stays behind alone: its neighbours are rescued, promoted and done."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from agent_service import replanner as replanner_module
from agent_service import rescuer as rescuer_module
from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.request import RequestStatus
from agent_service.replanner import Replanner
from agent_service.rescuer import Rescuer
from agent_service.scheduler import Scheduler
from agent_service.store import Store
from agent_service.store.contexts import THERE_WITHIN
from agent_service.store.notifier import Topic
from agent_service.store.outcomes import Outcome
from tests.support import hand_worker
from tests.support.contexts import NOW, SECOND, a_context, a_request
from tests.support.rescuers import end_leases
from tests.support.submissions import planned
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, by_step, echo, ended, running, submit

LONG = timedelta(seconds=30)
#: How many are odd, and how long a page is: with the others in one page, and a page of nothing else.
ODD_AND_PAGE = pytest.mark.parametrize(("odd", "page"), [(1, 100), (3, 2)])


async def damage(collection: Any, ids: Sequence[str], field: str, *, date: str) -> None:
    """Take a field from each, and let them stand first in the order of `date`."""
    await collection.update_many(
        {"_id": {"$in": list(ids)}},
        [{"$set": {date: {"$subtract": [f"${date}", 60_000]}}}, {"$unset": field}],
    )


async def stored(raw: Raw, ids: Sequence[str]) -> list[dict[str, Any]]:
    return await raw.contexts.find({"_id": {"$in": list(ids)}}, sort=[("_id", 1)]).to_list()


async def pending(raw: Raw) -> int | None:
    """How many contexts can be claimed."""
    return await raw.contexts.count_documents({"status": "pending"})


@ODD_AND_PAGE
async def test_an_odd_running_context_does_not_keep_others_from_being_taken_back(
    store: Store, raw: Raw, rescuer: Rescuer, monkeypatch: pytest.MonkeyPatch, odd: int, page: int
) -> None:
    monkeypatch.setattr(rescuer_module, "_PAGE", page)
    await store.contexts.insert([a_context() for _ in range(odd + 2)])
    claimed = await hand_worker.claim(ContextManager(store), "generation", limit=odd + 2)
    ids = [context.id for context in claimed]
    await end_leases(raw)
    await damage(raw.contexts, ids[:odd], "deadline_at", date="lease.expires_at")
    await rescuer.sweep()
    assert [document["status"] for document in await stored(raw, ids[odd:])] == ["scheduled"] * 2
    undecodable = await stored(raw, ids[:odd])
    assert [document["status"] for document in undecodable] == ["failed"] * odd
    assert {document["error"]["code"] for document in undecodable} == {"undecodable_context"}
    assert {document["lease"] for document in undecodable} == {None}


@ODD_AND_PAGE
async def test_an_odd_request_does_not_keep_others_from_being_planned(
    store: Store, raw: Raw, replanner: Replanner, monkeypatch: pytest.MonkeyPatch, odd: int, page: int
) -> None:
    monkeypatch.setattr(replanner_module, "_PAGE", page)
    monkeypatch.setattr(replanner_module, "_BATCH", page)
    ids = []
    for _ in range(odd + 2):
        # So old that its planner would be done.
        request = a_request(created_at=NOW - 2 * THERE_WITHIN)
        assert await store.requests.insert(request)
        ids.append(request.id)
    await damage(raw.requests, ids[:odd], "fingerprint", date="created_at")
    await replanner.look()
    await planned(store)
    found = await raw.requests.find({"planned": True, "status": "accepted"}, {"_id": 1}).to_list()
    assert {document["_id"] for document in found} == set(ids[odd:])
    assert {document["request_id"] async for document in raw.contexts.find()} == set(ids[odd:])
    # Nobody could ever plan them.
    undecodable = await raw.requests.find({"status": "failed"}, {"_id": 1}).to_list()
    assert {document["_id"] for document in undecodable} == set(ids[:odd])


@ODD_AND_PAGE
async def test_an_odd_ended_context_does_not_keep_others_from_being_settled(
    store: Store, raw: Raw, rescuer: Rescuer, monkeypatch: pytest.MonkeyPatch, odd: int, page: int
) -> None:
    monkeypatch.setattr(rescuer_module, "_PAGE", page)
    contexts = ContextManager(store)
    for _ in range(odd + 2):
        await submit(store)
    claimed = await hand_worker.claim(contexts, "generation", limit=odd + 2)
    outcomes = [
        Outcome(context=context, transition=hand_worker.success(contexts, context)) for context in claimed
    ]
    assert not await contexts.finish(outcomes)
    await damage(raw.contexts, [context.id for context in claimed[:odd]], "status", date="finished_at")
    await rescuer.sweep()
    completed = await raw.requests.find({"status": "completed"}, {"_id": 1}).to_list()
    assert {document["_id"] for document in completed} == {context.request_id for context in claimed[odd:]}
    unsettled = await raw.contexts.find({"settled": False}, {"_id": 1}).to_list()
    assert {document["_id"] for document in unsettled} == {context.id for context in claimed[:odd]}


@pytest.mark.parametrize("place", [0, 2])
async def test_an_odd_pending_context_does_not_take_its_neighbours_with_it(
    store: Store, raw: Raw, place: int
) -> None:
    requests = [await submit(store) for _ in range(5)]
    line = [document["_id"] async for document in raw.contexts.find({}, sort=[("rank", 1), ("_id", 1)])]
    await raw.contexts.update_one({"_id": line[place]}, {"$unset": {"deadline_at": 1}})
    fine = [request for request in requests if not line[place].startswith(request)]
    with ExitStack() as stack:
        # The stream is open for everything before, so that no opening wakes the worker.
        for topic in Topic:
            stack.enter_context(store.notifier.subscribe(topic))
        assert await store.notifier.opened(LONG)
        async with running(HandlerWorker(store, echo, poll_interval=0.1)), asyncio.timeout(8):
            views = [await ended(store, request) for request in fine]
    assert [view.status for view in views] == [RequestStatus.COMPLETED] * 4
    # Nobody's first claim was lost with that of the odd one.
    assert [by_step(view)["draft"].attempt for view in views] == [1] * 4


@pytest.mark.parametrize("run_at", [None, "soon", 5])
async def test_an_odd_scheduled_context_does_not_keep_others_from_being_promoted_in_time(
    store: Store, raw: Raw, run_at: object
) -> None:
    now = store.clock.now()
    scheduled: dict[str, Any] = {"status": ContextStatus.SCHEDULED, "released_at": None}
    odd, due = a_context(**scheduled), a_context(**scheduled, run_at=now + SECOND)
    await store.contexts.insert([odd, due])
    await raw.contexts.update_one({"_id": odd.id}, {"$set": {"run_at": run_at}})
    assert await store.schedule.next_run_at() == due.run_at
    stopping = asyncio.Event()
    scheduler = asyncio.create_task(Scheduler(store).run(stopping))
    promoted: int = await until(lambda: pending(raw))
    assert promoted == 1
    stopping.set()
    await scheduler
    statuses = {document["_id"]: document["status"] for document in await stored(raw, [odd.id, due.id])}
    assert statuses == {odd.id: "scheduled", due.id: "pending"}


async def test_the_scheduler_outlives_what_it_cannot_foresee(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.scheduler._AFTER_TROUBLE", timedelta(milliseconds=20))
    promote, failed = store.schedule.promote, asyncio.Event()

    async def promote_later(now: Any, *, limit: int) -> int:
        if not failed.is_set():
            failed.set()
            raise KeyError("status")
        return await promote(now, limit=limit)

    monkeypatch.setattr(store.schedule, "promote", promote_later)
    await store.contexts.insert([a_context(status=ContextStatus.SCHEDULED, released_at=None)])
    stopping = asyncio.Event()
    scheduler = asyncio.create_task(Scheduler(store).run(stopping))
    promoted: int = await until(lambda: pending(raw), seconds=30)
    assert promoted == 1
    stopping.set()
    await scheduler
    assert failed.is_set()
