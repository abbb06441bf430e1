"""The rescuer repairs what a crash left half done."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import StoreError
from agent_service.domain.request import RequestStatus
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from agent_service.store.lookout import Look, Need
from agent_service.store.notifier import Topic
from agent_service.store.outcomes import Outcome
from agent_service.store.paging import Page
from tests.support.explained_commands import CommandRecorder
from tests.support.hand_worker import claim, success, work_off
from tests.support.rescuers import SHORT_LEASE, a_rescuer, end_leases
from tests.support.submissions import CHAIN, planned

HOUR = timedelta(hours=1)
LIMIT = timedelta(seconds=20)
ONE_STEP = {"service": "generation", "input": {}}


async def test_a_context_whose_lease_ended_is_taken_back_and_tried_again(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Any, store: Store
) -> None:
    accepted = await requests.submit(ONE_STEP)
    await claim(contexts, "generation")
    await end_leases(raw)
    await rescuer.sweep()
    (context,) = (await requests.get(accepted.request.id)).contexts
    assert context.status is ContextStatus.SCHEDULED
    assert (context.attempt, context.tries, context.leases_lost) == (1, 1, 1)
    assert context.history[0].outcome == "lease_lost"
    assert context.error is not None
    assert context.error.retryable
    await store.schedule.promote(context.run_at)
    await work_off(contexts)
    assert (await requests.get(accepted.request.id)).status is RequestStatus.COMPLETED


async def test_a_context_whose_lease_goes_on_is_left_alone(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Any
) -> None:
    await requests.submit(ONE_STEP)
    await claim(contexts, "generation")
    before = await raw.contexts.find().to_list()
    await rescuer.sweep()
    assert await raw.contexts.find().to_list() == before


async def test_services_that_this_process_does_not_know_are_rescued_too(
    store: Store, contexts: ContextManager, rescuer: Rescuer, raw: Any
) -> None:
    requests = RequestService(store, max_attempts={"elsewhere": 3})
    accepted = await requests.submit({"service": "elsewhere", "input": {}})
    await claim(contexts, "elsewhere")
    await end_leases(raw)
    await rescuer.sweep()
    (context,) = (await requests.get(accepted.request.id)).contexts
    assert context.status is ContextStatus.SCHEDULED


async def test_the_last_lost_lease_fails_the_context_and_its_request(
    store: Store, contexts: ContextManager, rescuer: Rescuer, raw: Any
) -> None:
    requests = RequestService(store, max_attempts={"generation": 1, "analysis": 1})
    accepted = await requests.submit(CHAIN)
    await claim(contexts, "generation")
    await end_leases(raw)
    await rescuer.sweep()
    view = await requests.get(accepted.request.id)
    assert [context.status.value for context in view.contexts] == ["failed", "cancelled"]
    assert view.contexts[0].error is not None
    assert (view.contexts[0].error.code, view.contexts[0].error.retryable) == ("lease_lost", False)
    assert view.status is RequestStatus.FAILED


async def test_the_late_worker_of_a_rescued_context_writes_nothing(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Any
) -> None:
    await requests.submit(ONE_STEP)
    (late,) = await claim(contexts, "generation")
    await end_leases(raw)
    await rescuer.sweep()
    before = await raw.contexts.find().to_list()
    outcome = Outcome(context=late, transition=success(contexts, late))
    assert await contexts.finish([outcome]) == {late.id}
    assert await raw.contexts.find().to_list() == before


async def test_more_than_a_page_that_cannot_be_repaired_does_not_starve_what_follows(
    requests: RequestService,
    contexts: ContextManager,
    rescuer: Rescuer,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
    warnings: list[str],
) -> None:
    accepted = [await requests.submit(ONE_STEP) for _ in range(3)]
    for _ in range(3):
        await claim(contexts, "generation")
    await end_leases(raw)
    good = accepted[-1].request.id
    take_back = contexts.take_back

    async def fails_for_all_but_one(context: Any, transition: Any) -> bool:
        if context.request_id != good:
            raise StoreError("this one cannot be taken back")
        return await take_back(context, transition)

    monkeypatch.setattr("agent_service.rescuer._PAGE", 1)
    monkeypatch.setattr(contexts, "take_back", fails_for_all_but_one)
    await rescuer.sweep()
    (context,) = (await requests.get(good)).contexts
    assert context.status is ContextStatus.SCHEDULED
    assert sum("could not be repaired" in line for line in warnings) == 2


async def test_nothing_is_taken_back_for_one_lease_after_a_primary_was_first_seen(
    requests: RequestService,
    contexts: ContextManager,
    raw: Any,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = timedelta(hours=1)
    rescuer = Rescuer(store, contexts, lease=lease)

    async def status_after_a_sweep() -> ContextStatus:
        await rescuer.sweep()
        (context,) = (await requests.get(accepted.request.id)).contexts
        return context.status

    accepted = await requests.submit(ONE_STEP)
    await claim(contexts, "generation")
    await end_leases(raw)
    # The first one that a process sees may have been elected a moment ago, and be ahead of the one before.
    assert await status_after_a_sweep() is ContextStatus.RUNNING
    a_lease_ago = time.monotonic() - lease.total_seconds() - 1
    monkeypatch.setattr(store, "_primary_changed", a_lease_ago)
    # And so may the next one.
    monkeypatch.setattr(store, "_primary", "the one before")
    assert await status_after_a_sweep() is ContextStatus.RUNNING
    monkeypatch.setattr(store, "_primary_changed", a_lease_ago)
    assert await status_after_a_sweep() is ContextStatus.SCHEDULED


async def test_an_end_whose_settler_died_is_settled(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer
) -> None:
    accepted = await requests.submit(CHAIN)
    (first,) = await claim(contexts, "generation")
    await contexts.finish([Outcome(context=first, transition=success(contexts, first))])
    assert await claim(contexts, "analysis") == []
    # The end is a millisecond old at most, and only what is older than the grace is settled.
    async with asyncio.timeout(10):
        while not (await requests.get(accepted.request.id)).contexts[0].settled:
            await rescuer.sweep()
    assert [context.step for context in await claim(contexts, "analysis")] == ["b"]


async def test_it_outlives_trouble_and_stops_when_asked(
    store: Store, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    rescuer = Rescuer(store, contexts, lease=SHORT_LEASE, every=timedelta(milliseconds=1))
    troubled, calm, stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def expired(*_: object, **__: object) -> Page[Any]:
        if not troubled.is_set():
            troubled.set()
            raise RuntimeError("unforeseen")
        calm.set()
        return Page([], None)

    async def look(*_: object, **__: object) -> Look:
        return Look(needs=frozenset({Need.LEASES}), present=(), server_time=datetime.now(UTC))

    monkeypatch.setattr(store.lookout, "look", look)
    monkeypatch.setattr(store.leases, "expired", expired)
    running = asyncio.create_task(rescuer.run(stopping))
    async with asyncio.timeout(10):
        await calm.wait()
        stopping.set()
        await running
    assert any("unforeseen" in line for line in warnings)


async def test_while_there_is_nothing_to_do_it_asks_one_question(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    rescuer = a_rescuer(recorded_store)
    await rescuer.sweep()
    recorder.sent.clear()
    await rescuer.sweep()
    assert [name for name, _ in recorder.sent] == ["aggregate"]


async def test_where_nobody_can_look_every_duty_is_done(
    store: Store,
    requests: RequestService,
    contexts: ContextManager,
    rescuer: Rescuer,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look(*_: object, **__: object) -> Look:
        raise StoreError("this server knows no such question")

    monkeypatch.setattr(store.lookout, "look", look)
    accepted = await requests.submit(ONE_STEP)
    await claim(contexts, "generation")
    await end_leases(raw)
    await rescuer.sweep()
    (context,) = (await requests.get(accepted.request.id)).contexts
    assert context.status is ContextStatus.SCHEDULED


async def test_it_rings_for_what_should_have_been_promoted(
    store: Store, requests: RequestService, rescuer: Rescuer, raw: Any
) -> None:
    await requests.submit(ONE_STEP)
    await planned(store)
    await raw.contexts.update_one({}, {"$set": {"status": "scheduled", "run_at": store.clock.now() - HOUR}})
    with store.notifier.subscribe(Topic.SCHEDULE) as subscription:
        assert await store.notifier.opened(LIMIT)
        assert await subscription.wait(LIMIT)
        assert not await subscription.wait(timedelta(0))
        await rescuer.sweep()
        assert await subscription.wait(LIMIT)
