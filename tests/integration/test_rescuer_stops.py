"""The rescuer goes on with cancellations that were interrupted, and ends what has passed its deadline."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import StoreError
from agent_service.domain.request import RequestStatus
from agent_service.domain.stop import DEADLINE, Stop, stopped
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.support.hand_worker import claim, end, success
from tests.support.rescuers import SHORT_LEASE, a_rescuer, end_leases, pass_deadlines
from tests.support.submissions import CHAIN, planned
from tests.support.worker_tools import Raw, error_of, submit, when


async def test_a_cancellation_that_was_only_asked_for_is_carried_out(
    requests: RequestService, rescuer: Rescuer, store: Store
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await store.cancellation.ask(request_id)
    await rescuer.sweep()
    view = await requests.get(request_id)
    assert view.status is RequestStatus.CANCELLED
    assert [context.status for context in view.contexts] == [ContextStatus.CANCELLED] * 2
    assert all(context.settled for context in view.contexts)


async def test_a_request_that_waits_fails_at_its_deadline(
    requests: RequestService, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await rescuer.sweep()
    assert not (await requests.get(request_id)).status.ended
    await pass_deadlines(raw)
    await rescuer.sweep()
    view = await requests.get(request_id)
    assert view.status is RequestStatus.FAILED
    assert [(c.status, error_of(c)) for c in view.contexts] == [
        (ContextStatus.FAILED, "deadline_exceeded")
    ] * 2


@pytest.mark.parametrize("deleted", ["the_last", "all"])
async def test_a_request_of_which_somebody_deleted_contexts_fails_at_its_deadline(
    requests: RequestService, rescuer: Rescuer, store: Store, raw: Raw, deleted: str
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await planned(store)
    ids = [context.id for context in (await requests.get(request_id)).contexts]
    await raw.contexts.delete_many({"_id": {"$in": ids[-1:] if deleted == "the_last" else ids}})
    await pass_deadlines(raw)
    await rescuer.sweep()
    view = await requests.get(request_id)
    assert view.status is RequestStatus.FAILED
    assert [error_of(context) for context in view.contexts] == ["deadline_exceeded"] * 2


async def test_an_attempt_that_runs_past_the_deadline_is_told_and_may_not_be_tried_again(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    [context] = await claim(contexts, "generation")
    await pass_deadlines(raw)
    await rescuer.sweep()
    view = await requests.get(request_id)
    assert [c.status for c in view.contexts] == [ContextStatus.RUNNING, ContextStatus.FAILED]
    assert not view.status.ended
    assert view.contexts[0].lease is not None
    states = await contexts.leases([context.id], timedelta(seconds=30))
    assert (states[context.id].deadline_passed, states[context.id].cancel_requested) == (True, False)
    # It hands the context back, as if it had not heard.
    assert await contexts.hand_back([context]) == 1
    assert (await requests.get(request_id)).contexts[0].status is ContextStatus.FAILED
    await contexts.settle([context.id])
    assert (await requests.get(request_id)).status is RequestStatus.FAILED


async def test_a_worker_that_fell_silent_past_the_deadline_ends_its_request_within_the_sweep(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await claim(contexts, "generation")
    await pass_deadlines(raw)
    await rescuer.sweep()
    await end_leases(raw)
    await rescuer.sweep()
    view = await requests.get(request_id)
    assert view.status is RequestStatus.FAILED
    assert error_of(view.contexts[0]) == "deadline_exceeded"


async def test_what_completed_before_the_deadline_stays_completed(
    requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    [context] = await claim(contexts, "generation")
    await end(contexts, context, success(contexts, context))
    await pass_deadlines(raw)
    await rescuer.sweep()
    view = await requests.get(request_id)
    assert [c.status for c in view.contexts] == [ContextStatus.COMPLETED, ContextStatus.FAILED]
    assert view.status is RequestStatus.FAILED


@pytest.mark.parametrize("asked", [True, False], ids=["cancelled", "past its deadline"])
async def test_a_request_that_was_never_planned_ends_with_all_of_its_steps(
    requests: RequestService, rescuer: Rescuer, store: Store, raw: Raw, asked: bool
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await planned(store)
    await raw.contexts.delete_many({})
    await raw.requests.update_one({}, {"$set": {"planned": False}})
    if asked:
        await store.cancellation.ask(request_id)
    else:
        await pass_deadlines(raw)
    await rescuer.sweep()
    await planned(store)
    view = await requests.get(request_id)
    assert view.status is (RequestStatus.CANCELLED if asked else RequestStatus.FAILED)
    assert [context.attempt for context in view.contexts] == [0, 0]
    assert view.request.planned


async def test_who_cancels_a_request_without_contexts_inserts_them_first(
    requests: RequestService, contexts: ContextManager, store: Store, raw: Raw
) -> None:
    """So that what its planner sends later meets ids that exist, and nothing of it is ever claimable."""
    accepted = await requests.submit(CHAIN)
    await planned(store)
    await raw.contexts.delete_many({})
    await raw.requests.update_one({}, {"$set": {"planned": False}})
    view = await requests.cancel(accepted.request.id)
    assert view.status is RequestStatus.CANCELLED
    assert [context.status for context in view.contexts] == [ContextStatus.CANCELLED] * 2
    await contexts.plan(accepted.request, until=plan_by())
    assert (await requests.get(accepted.request.id)).contexts == view.contexts
    assert await claim(contexts, "generation") == []


async def test_more_than_a_page_that_cannot_be_ended_does_not_starve_what_follows(
    requests: RequestService,
    contexts: ContextManager,
    rescuer: Rescuer,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [(await requests.submit(CHAIN)).request.id for _ in range(3)]
    await pass_deadlines(raw)
    stop = contexts.stop

    async def fails_for_all_but_one(request_id: str, steps: Collection[str], why: Stop) -> None:
        if request_id != ids[-1]:
            raise StoreError("this one cannot be ended")
        await stop(request_id, steps, why)

    monkeypatch.setattr("agent_service.rescuer._PAGE", 1)
    monkeypatch.setattr(contexts, "stop", fails_for_all_but_one)
    await rescuer.sweep()
    ends = [(await requests.get(request_id)).status.ended for request_id in ids]
    assert ends == [False, False, True]


async def test_a_stopped_attempt_that_is_taken_back_is_settled_in_the_same_sweep(
    requests: RequestService, contexts: ContextManager, store: Store, raw: Raw
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await claim(contexts, "generation")
    await requests.cancel(request_id)
    await end_leases(raw)
    # A settler has an hour, and nobody repeats the cancellation: who took it back settles it.
    slow = a_rescuer(store, contexts, grace=timedelta(hours=1))
    await slow.sweep(every_duty=False)
    assert (await requests.get(request_id)).status is RequestStatus.CANCELLED


async def test_an_attempt_that_ends_as_told_ends_the_request(
    store: Store, contexts: ContextManager, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = await submit(store)
    [context] = await claim(contexts, "generation")
    await pass_deadlines(raw)
    await rescuer.sweep()
    await when(store, context.id, lambda found: found.deadline_passed)
    await end(contexts, context, stopped(DEADLINE, at=contexts.now()))
    view: Any = await RequestService(store).get(request_id)
    assert view.status is RequestStatus.FAILED


async def test_duties_that_matter_only_after_a_crash_are_done_every_third_time(
    store: Store, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescuer = a_rescuer(store, contexts, every=SHORT_LEASE)
    stopping = asyncio.Event()
    sweeps: list[bool] = []

    async def sweep(*, every_duty: bool) -> None:
        sweeps.append(every_duty)
        if len(sweeps) == 5:
            stopping.set()

    monkeypatch.setattr(rescuer, "sweep", sweep)
    async with asyncio.timeout(30):
        await rescuer.run(stopping)
    assert sweeps == [True, False, False, True, False]


async def test_a_usual_sweep_ends_what_is_overdue(
    requests: RequestService, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = (await requests.submit(CHAIN)).request.id
    await pass_deadlines(raw)
    await rescuer.sweep(every_duty=False)
    assert (await requests.get(request_id)).status is RequestStatus.FAILED
