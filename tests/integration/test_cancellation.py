"""Cancellation: what the store writes to end a request from outside, with both drivers."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.request import Caller, RequestStatus
from agent_service.domain.stop import CANCELLED, DEADLINE, STOPS, Stop
from agent_service.store import Store
from agent_service.store.cancellation import OpenRequest
from tests.support.contexts import NOW, SECOND, a_context, a_request, a_step, the_context

EXPIRES_AT = NOW + timedelta(days=7)
WAITING = (ContextStatus.BLOCKED, ContextStatus.SCHEDULED, ContextStatus.PENDING)
each_stop = pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.flag)
each_status = pytest.mark.parametrize("status", ContextStatus)


async def test_a_request_that_goes_on_is_asked_to_end_as_often_as_somebody_wants(any_store: Store) -> None:
    request = a_request(caller=Caller(organization_id="ours"))
    await any_store.requests.insert(request)
    for _ in range(2):
        asked = await any_store.cancellation.ask(request.id, organization_id="ours")
        assert asked == replace(request, cancel_requested=True)
        assert await any_store.requests.get(request.id) == asked


async def test_what_is_not_there_for_the_caller_or_has_ended_is_left_alone(any_store: Store) -> None:
    theirs = a_request(caller=Caller(organization_id="theirs"))
    over = a_request(status=RequestStatus.COMPLETED, finished_at=NOW)
    for request in (theirs, over):
        await any_store.requests.insert(request)
    assert await any_store.cancellation.ask(theirs.id, organization_id="ours") is None
    assert await any_store.cancellation.ask(over.id) is None
    assert await any_store.cancellation.ask("gone") is None
    for request in (theirs, over):
        assert await any_store.requests.get(request.id) == request


@each_stop
@each_status
async def test_whatever_has_not_ended_is_flagged(any_store: Store, stop: Stop, status: ContextStatus) -> None:
    context, other = a_context(status=status), a_context(status=status)
    # Its id begins like that of the first one's request.
    neighbour = a_context(status=status, request_id=f"{context.request_id}0")
    await any_store.contexts.insert([context, other, neighbour])
    flags: dict[str, Any] = {stop.flag: True}
    expected = context if status.ended else replace(context, **flags)
    for _ in range(2):
        await any_store.cancellation.flag_contexts(context.request_id, stop)
        assert await the_context(any_store, context) == expected
    for left_alone in (other, neighbour):
        assert await the_context(any_store, left_alone) == left_alone


async def hold(store: Store, context: Context) -> Context:
    """Give a context that runs a lease."""
    lease = {"token": "held", "worker": "a worker", "expires_at": NOW}
    await store._database["contexts"].update_one({"_id": context.id}, {"$set": {"lease": lease}})
    return await the_context(store, context)


@each_stop
async def test_what_runs_under_a_lease_that_nobody_can_have_ends(any_store: Store, stop: Stop) -> None:
    for lease in (None, "mine", {"token": "held", "worker": "a worker", "expires_at": "soon"}):
        context = a_context(status=ContextStatus.RUNNING)
        await any_store.contexts.insert([context])
        await any_store._database["contexts"].update_one({"_id": context.id}, {"$set": {"lease": lease}})
        await any_store.cancellation.end_waiting(context.request_id, stop, at=NOW)
        found = await the_context(any_store, context)
        assert (found.status, found.lease, found.settled) == (stop.status, None, False)


@each_stop
@each_status
async def test_what_no_worker_holds_ends_and_nothing_else(
    any_store: Store, stop: Stop, status: ContextStatus
) -> None:
    # What runs is held; what nobody can hold ends with what waits.
    context, other = a_context(status=status), a_context(status=status)
    await any_store.contexts.insert([context, other])
    if status is ContextStatus.RUNNING:
        context = await hold(any_store, context)
    ended = replace(context, status=stop.status, error=stop.error, finished_at=NOW, settled=False)
    for at in (NOW, NOW + SECOND):
        await any_store.cancellation.end_waiting(context.request_id, stop, at=at)
        assert await the_context(any_store, context) == (ended if status in WAITING else context)
    assert await the_context(any_store, other) == other


async def test_requests_that_shall_be_cancelled_are_paged_in_order(any_store: Store) -> None:
    steps = a_step("one"), a_step("two", "one")
    asked = [
        a_request(*steps, id=name, created_at=NOW - ago * SECOND, cancel_requested=True)
        for name, ago in [("d", 1), ("c", 1), ("b", 1), ("e", 2)]
    ]
    ended = a_request(cancel_requested=True, finished_at=NOW, created_at=NOW - SECOND)
    for request in (*asked, ended, a_request(created_at=NOW - SECOND)):
        await any_store.requests.insert(request)
    page = await any_store.cancellation.asked_for(limit=2)
    assert page == [OpenRequest(id=name, step_names=("one", "two")) for name in ("e", "b")]
    rest = await any_store.cancellation.asked_for(after=page.end, limit=3)
    assert [request.id for request in rest] == ["c", "d"]


async def test_overdue_requests_are_paged_those_longest_overdue_first(any_store: Store) -> None:
    late = [
        a_request(id=name, deadline_at=at)
        for name, at in [("c", NOW - SECOND), ("b", NOW - SECOND), ("a", NOW - 2 * SECOND)]
    ]
    ended = a_request(finished_at=NOW, deadline_at=NOW - SECOND)
    for request in (*late, ended, a_request(deadline_at=NOW)):
        await any_store.requests.insert(request)
    page = await any_store.cancellation.overdue(NOW, limit=2)
    assert [request.id for request in page] == ["a", "b"]
    rest = await any_store.cancellation.overdue(NOW, after=page.end, limit=2)
    assert [request.id for request in rest] == ["c"]


async def test_the_flag_of_one_reason_leaves_the_other_alone(any_store: Store) -> None:
    context = a_context(status=ContextStatus.RUNNING)
    await any_store.contexts.insert([context])
    await any_store.cancellation.flag_contexts(context.request_id, DEADLINE)
    await any_store.cancellation.flag_contexts(context.request_id, CANCELLED)
    both = replace(context, cancel_requested=True, deadline_passed=True)
    assert await the_context(any_store, context) == both
