"""ContextManager: planning, handing back, inputs, and settling."""

import asyncio
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.context import ContextStatus, Lease
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.request import RequestStatus
from agent_service.domain.templates import placeholders
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.settlement import OUTLIVES
from tests.support.claiming import claim_waiting
from tests.support.hand_worker import claim, end, failure, success, work_off
from tests.support.submissions import planned

FAN = {
    "steps": [
        {"name": "a", "service": "generation", "input": {}},
        {"name": "b", "service": "generation", "input": {}},
        {"name": "join", "service": "analysis", "input": "{{ steps.a.output.text }}", "after": ["a", "b"]},
        {"name": "last", "service": "communication", "input": {}, "after": ["join"]},
        {"name": "apart", "service": "communication", "input": {}},
    ]
}


@pytest.fixture
def contexts(store: Store) -> ContextManager:
    return ContextManager(store, retention=timedelta(days=3))


async def test_planning_twice_changes_nothing(
    requests: RequestService, contexts: ContextManager, raw: Any
) -> None:
    accepted = await requests.submit(FAN)
    await work_off(contexts)
    before = await raw.contexts.find().to_list()
    await contexts.plan(accepted.request, until=plan_by())
    await contexts.plan_missing(accepted.request, until=plan_by())
    assert await raw.contexts.find().to_list() == before


async def test_what_was_read_before_its_end_and_deleted_meanwhile_gets_no_contexts(
    requests: RequestService, contexts: ContextManager, raw: Any
) -> None:
    """The rescuer may be slow: a purge comes between its look at a request that ended and what it does."""
    accepted = await requests.submit(FAN)
    await planned(contexts.store)
    ended = (await requests.cancel(accepted.request.id)).request
    await raw.contexts.delete_many({})
    await contexts.plan_missing(ended, until=plan_by())
    assert await raw.contexts.count_documents({}) == 0


async def test_nothing_is_sent_after_the_time_for_it(
    requests: RequestService, contexts: ContextManager, raw: Any
) -> None:
    accepted = await requests.submit(FAN)
    await planned(contexts.store)
    await raw.contexts.delete_many({})
    for plan in (contexts.plan, contexts.plan_missing):
        with pytest.raises(StoreUnavailable, match="too late"):
            await plan(accepted.request, until=time.monotonic())
    assert await raw.contexts.count_documents({}) == 0


async def test_dependents_are_there_before_what_they_wait_for(
    requests: RequestService, store: Store, raw: Any
) -> None:
    await requests.submit(FAN)
    await planned(store)
    inserted = [document["step"] async for document in raw.contexts.find().sort("$natural", 1)]
    assert inserted.index("last") < inserted.index("join") < min(inserted.index("a"), inserted.index("b"))


async def test_a_step_is_released_when_the_last_of_those_it_waits_for_is_done(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(FAN)
    first, second = await claim(contexts, "generation", limit=2)
    await end(contexts, first, success(contexts, first))
    assert await claim(contexts, "analysis") == []
    await end(contexts, second, success(contexts, second))
    (joined,) = await claim(contexts, "analysis")
    assert joined.step == "join"
    assert joined.waiting_on == ()
    assert joined.released_at is not None
    await end(contexts, joined, success(contexts, joined))
    await work_off(contexts)
    assert (await requests.get(accepted.request.id)).status is RequestStatus.COMPLETED


async def test_two_steps_that_end_at_the_same_moment_still_release_and_end(
    requests: RequestService, contexts: ContextManager
) -> None:
    for _ in range(10):
        accepted = await requests.submit(FAN)
        ended = await claim(contexts, "generation", limit=2)
        await asyncio.gather(*(end(contexts, context, success(contexts, context)) for context in ended))
        (joined,) = await claim(contexts, "analysis")
        await end(contexts, joined, success(contexts, joined))
        last = await claim(contexts, "communication", limit=2)
        await asyncio.gather(*(end(contexts, context, success(contexts, context)) for context in last))
        view = await requests.get(accepted.request.id)
        assert view.request.status is RequestStatus.COMPLETED
        assert all(context.settled for context in view.contexts)


async def test_a_failed_step_cancels_what_depends_on_it_and_other_branches_go_on(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(FAN)
    first, second = await claim(contexts, "generation", limit=2)
    await end(contexts, first, failure(contexts))
    view = await requests.get(accepted.request.id)
    statuses = {context.step: context.status for context in view.contexts}
    assert statuses["join"] is statuses["last"] is ContextStatus.CANCELLED
    assert statuses["apart"] is ContextStatus.PENDING
    assert view.status is RequestStatus.RUNNING
    cancelled = next(context for context in view.contexts if context.step == "last")
    assert cancelled.error is not None
    assert cancelled.error.code == "dependency_not_completed"
    assert cancelled.settled
    await end(contexts, second, success(contexts, second))
    await work_off(contexts)
    assert (await requests.get(accepted.request.id)).status is RequestStatus.FAILED


async def test_nothing_expires_before_its_request_has_ended_and_contexts_outlive_it(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(FAN)
    first, second = await claim(contexts, "generation", limit=2)
    await end(contexts, first, success(contexts, first))
    view = await requests.get(accepted.request.id)
    assert [context.expires_at for context in view.contexts] == [None] * 5
    assert view.request.expires_at is None
    await end(contexts, second, success(contexts, second))
    await work_off(contexts)
    request = (view := await requests.get(accepted.request.id)).request
    assert request.finished_at is not None
    assert request.expires_at == request.finished_at + timedelta(days=3)
    assert {context.expires_at for context in view.contexts} == {request.expires_at + OUTLIVES}


async def test_settling_what_has_not_ended_does_nothing(
    requests: RequestService, contexts: ContextManager, raw: Any
) -> None:
    await requests.submit(FAN)
    await planned(contexts.store)
    before = await raw.contexts.find().to_list()
    await contexts.settle([document["_id"] for document in before])
    assert await raw.contexts.find().to_list() == before


async def test_a_claim_whose_answer_was_lost_is_handed_back_and_refunded(
    requests: RequestService, contexts: ContextManager
) -> None:
    await requests.submit({"service": "generation", "input": {}})
    await planned(contexts.store)
    now = contexts.now()
    lease = Lease(token=uuid.uuid4().hex, worker="w", expires_at=now + timedelta(seconds=30))
    await claim_waiting(contexts, Claim(service="generation", queues=("default",), lease=lease, at=now), 1)
    assert await contexts.hand_back_claim(lease) == 1
    assert await contexts.hand_back_claim(lease) == 0
    (again,) = await claim(contexts, "generation")
    assert (again.attempt, again.tries) == (2, 1)


async def test_an_input_sees_variables_and_the_outputs_of_completed_steps_only(
    requests: RequestService, contexts: ContextManager
) -> None:
    body = {**FAN, "variables": {"x": [1]}}
    await requests.submit(body)
    ended = await claim(contexts, "generation", limit=2)
    await end(contexts, ended[0], success(contexts, ended[0]))
    used = placeholders("{{ vars.x.0 }} {{ steps.a.output }} {{ steps.b.output }}")
    scope = await contexts.scope(ended[1], used)
    assert scope == {
        "vars": {"x": [1]},
        "steps": {"a": {"output": {"text": "a", "attempt": 1}}},
    }
