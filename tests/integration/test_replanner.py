"""What a planner did not finish is planned by others, once two looks have seen it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from agent_service import replanner as replanner_module
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreError
from agent_service.domain.request import Request, RequestStatus
from agent_service.replanner import Replanner
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.contexts import NOW, SECOND, a_request, a_step
from tests.support.explained_commands import CommandRecorder
from tests.support.hand_worker import work_off
from tests.support.rescuers import a_replanner
from tests.support.submissions import CHAIN, planned
from tests.support.worker_tools import DEADLINE_SECONDS, Raw

AN_HOUR = timedelta(hours=1)


async def unplanned(store: Store, raw: Raw, submission: Any = CHAIN) -> str:
    """A request of which the planner died when some of its contexts were inserted."""
    request_id = (await RequestService(store).submit(submission)).request.id
    await planned(store)
    await raw.contexts.delete_many({"request_id": request_id, "status": "pending"})
    await raw.requests.update_one({"_id": request_id}, {"$set": {"planned": False}})
    return request_id


async def insert_unplanned(store: Store, count: int, *, before: datetime = NOW) -> list[Request]:
    """So many requests without contexts, each older than the next."""
    requests = [
        a_request(a_step("one"), a_step("two", "one"), created_at=before - (count - n) * SECOND)
        for n in range(count)
    ]
    await store.requests.insert_many(requests)
    return requests


async def test_a_request_whose_planner_died_is_planned_and_done(
    store: Store, contexts: ContextManager, replanner: Replanner, raw: Raw
) -> None:
    request_id = await unplanned(store, raw)
    await replanner.look()
    await planned(store)
    assert (await RequestService(store).get(request_id)).request.planned
    assert await work_off(contexts) == 2
    assert (await RequestService(store).get(request_id)).status is RequestStatus.COMPLETED


async def test_what_shall_be_cancelled_is_planned_and_never_called(
    store: Store, contexts: ContextManager, replanner: Replanner, raw: Raw
) -> None:
    request_id = await unplanned(store, raw)
    # Whoever cancelled it died before anything else.
    await raw.requests.update_one({"_id": request_id}, {"$set": {"cancel_requested": True}})
    await raw.contexts.delete_many({})
    await replanner.look()
    documents = await raw.contexts.find({}).to_list()
    assert len(documents) == 2
    assert all(document["cancel_requested"] for document in documents)
    assert await work_off(contexts) == 0


async def test_what_cannot_be_planned_is_not_tried_with_every_look(
    store: Store, contexts: ContextManager, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    [request] = await insert_unplanned(store, 1)
    tried: list[str] = []

    async def fail(*requests: Request, until: float) -> None:
        tried.extend(each.id for each in requests)
        raise StoreError("it cannot be planned")

    monkeypatch.setattr(contexts, "plan_missing", fail)
    replanner = Replanner(store, contexts, young=timedelta(seconds=-1), between=timedelta(0))
    for _ in range(3):
        await replanner.look()
    # Once with others, and once by itself.
    assert tried == [request.id] * 2
    assert replanner._pause() > timedelta(seconds=2)


async def test_what_two_looks_saw_unplanned_is_planned(
    store: Store, contexts: ContextManager, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    await unplanned(store, raw)
    seconds = 1_000.0
    clock = SimpleNamespace(monotonic=lambda: seconds)
    monkeypatch.setattr(replanner_module, "time", clock)
    replanner = Replanner(store, contexts, young=timedelta(seconds=-1))
    await replanner.look()
    seconds = 1_001.9
    await replanner.look()
    assert await raw.contexts.count_documents({}) == 1
    # Another process has seen it once only.
    await Replanner(store, contexts, young=timedelta(seconds=-1)).look()
    assert await raw.contexts.count_documents({}) == 1
    seconds = 1_002.0
    await replanner.look()
    assert await raw.contexts.count_documents({}) == 2


async def test_what_was_planned_between_two_looks_is_forgotten(
    store: Store, contexts: ContextManager, raw: Raw
) -> None:
    request_id = await unplanned(store, raw)
    replanner = Replanner(store, contexts, young=timedelta(seconds=-1), between=AN_HOUR)
    await replanner.look()
    assert set(replanner._due) == {request_id}
    await store.requests.mark_planned([request_id])
    await replanner.look()
    assert not replanner._due


async def test_a_planner_that_is_still_at_it_is_left_alone(
    store: Store, contexts: ContextManager, raw: Raw
) -> None:
    await unplanned(store, raw)
    await Replanner(store, contexts, young=timedelta(minutes=1), between=timedelta(0)).look()
    assert await raw.contexts.count_documents({}) == 1


async def test_of_three_hundred_contexts_those_are_inserted_that_are_missing_in_a_few_commands(
    recorded_store: Store, recorder: CommandRecorder, raw: Raw
) -> None:
    steps = [a_step(f"step_{number:03}") for number in range(100)]
    requests = [a_request(*steps) for _ in range(3)]
    await recorded_store.requests.insert_many(requests)
    replanner = a_replanner(recorded_store)
    await replanner.look()
    await planned(recorded_store)
    assert await raw.contexts.count_documents({}) == 300
    missing = {"_id": {"$in": [f"{requests[1].id}.step_{number:03}" for number in (0, 50, 99)]}}
    await raw.contexts.delete_many(missing)
    before = await raw.contexts.find({}, sort=[("_id", 1)]).to_list()
    await raw.requests.update_many({}, {"$set": {"planned": False}})
    recorder.sent.clear()
    await a_replanner(recorded_store).look()
    assert [len(command["documents"]) for command in recorder.named("insert")] == [3]
    assert len(recorder.named("find")) <= 10
    assert await raw.contexts.count_documents(missing) == 3
    await raw.contexts.delete_many(missing)
    assert await raw.contexts.find({}, sort=[("_id", 1)]).to_list() == before


async def test_a_planner_that_meets_what_others_inserted_looks_once_instead_of_trying_each(
    recorded_store: Store, recorder: CommandRecorder, raw: Raw
) -> None:
    steps = [a_step(f"step_{number:03}") for number in range(100)]
    request = a_request(*steps)
    contexts = ContextManager(recorded_store)
    await contexts.plan_missing(request, until=float("inf"))
    await raw.contexts.delete_many({"step": {"$in": ["step_000", "step_050", "step_099"]}})
    recorder.sent.clear()
    await contexts.plan(request, until=float("inf"))
    # The first command gets as far as the first that exists.
    assert [len(command["documents"]) for command in recorder.named("insert")] == [100, 2]
    assert await raw.contexts.count_documents({}) == 100


async def test_dependents_that_are_missing_are_there_before_what_they_wait_for(
    store: Store, replanner: Replanner, raw: Raw
) -> None:
    await store.requests.insert_many([a_request(a_step("a"), a_step("b", "a"), a_step("c", "b"), id="r")])
    await raw.contexts.delete_many({})
    await replanner.look()
    inserted = [document["step"] async for document in raw.contexts.find().sort("$natural", 1)]
    assert inserted == ["c", "b", "a"]


@pytest.mark.parametrize("begin", [0.0, 0.5, 0.999999])
async def test_wherever_it_begins_it_looks_at_all_of_them(
    store: Store, replanner: Replanner, raw: Raw, monkeypatch: pytest.MonkeyPatch, begin: float
) -> None:
    monkeypatch.setattr(replanner_module, "_PAGE", 2)
    monkeypatch.setattr(replanner_module, "random", SimpleNamespace(random=lambda: begin))
    requests = await insert_unplanned(store, 7)
    await replanner.look()
    await planned(store)
    assert set(await raw.contexts.distinct("request_id")) == {request.id for request in requests}
    assert await raw.requests.distinct("planned") == [True]


async def test_several_processes_begin_elsewhere(
    store: Store, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replanner_module, "_PAGE", 1)
    await insert_unplanned(store, 20, before=store.clock.now())
    firsts = set()
    for _ in range(30):
        replanner = Replanner(store, contexts, between=AN_HOUR)
        await replanner.look()
        firsts.add(next(iter(replanner._due)))
    assert len(firsts) > 3


async def test_one_that_cannot_be_planned_does_not_keep_its_page_waiting(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    contexts = ContextManager(store)
    requests = await insert_unplanned(store, 5)
    plan_missing = contexts.plan_missing

    async def fails_for_one(*planning: Request, until: float) -> None:
        if any(request.id == requests[2].id for request in planning):
            raise StoreError("this one cannot be planned")
        await plan_missing(*planning, until=until)

    monkeypatch.setattr(contexts, "plan_missing", fails_for_one)
    await a_replanner(store, contexts).look()
    assert set(await raw.contexts.distinct("request_id")) == {
        request.id for request in requests if request is not requests[2]
    }
    assert any(requests[2].id in line or "cannot be planned" in line for line in warnings)


async def test_what_has_ended_is_said_to_be_planned_and_gets_nothing(
    store: Store, replanner: Replanner, raw: Raw
) -> None:
    request_id = await unplanned(store, raw)
    await raw.requests.update_one({"_id": request_id}, {"$set": {"status": "cancelled"}})
    await replanner.look()
    await planned(store)
    assert await raw.contexts.count_documents({}) == 1
    assert await raw.requests.distinct("planned") == [True]


async def test_what_is_planned_is_marked_of_many_at_once_within_a_second(
    recorded_store: Store, recorder: CommandRecorder, raw: Raw
) -> None:
    requests = RequestService(recorded_store)
    body: Sequence[object] = [CHAIN] * 30
    await asyncio.gather(*(requests.submit_many(body) for _ in range(3)))
    await recorded_store.calls.finish()
    marks = recorded_store.planned_marks
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.wait(set(marks._writing))
    updates = [command for command in recorder.named("update") if command["update"] == "requests"]
    # Each batch may take a second look, where a majority is late.
    assert 1 <= len(updates) <= 4
    assert await raw.requests.count_documents({"planned": True}) == 90
