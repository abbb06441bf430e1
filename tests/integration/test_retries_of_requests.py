"""An ended request is repeated as a new one: what completed is copied, the rest runs, the original stays."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import (
    BaseServiceRejected,
    IdempotencyConflict,
    InvalidSubmission,
    NothingToRetry,
    RequestNotEnded,
    RequestNotFound,
)
from agent_service.domain.request import Caller, RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.hand_worker import SERVICES, work_off
from tests.support.rescuers import a_replanner, a_rescuer
from tests.support.submissions import planned
from tests.support.worker_tools import HandlerWorker, Raw, by_step, ended, running

STEPS = (
    {"name": "draft", "service": "generation", "input": "{{ vars.topic }}"},
    {"name": "check", "service": "analysis", "input": "{{ steps.draft.output.text }}", "after": ["draft"]},
    {"name": "other", "service": "generation", "input": "other"},
    {"name": "send", "service": "communication", "input": "{{ steps.check.output }}", "after": ["check"]},
)
SUBMISSION: Mapping[str, Any] = {
    "steps": STEPS,
    "variables": {"topic": "tea"},
    "metadata": {"ticket": 7},
    "priority": 2,
    "deadline_seconds": 600,
}
CALLER = Caller(organization_id="acme", user_id="ann", correlation_id="c1")


async def failed_request(requests: RequestService, contexts: ContextManager) -> str:
    """A request of which `check` failed, so that `send` was cancelled."""
    accepted = await requests.submit(SUBMISSION, caller=CALLER)
    await work_off(contexts, failing=("check",))
    return accepted.request.id


async def documents_of(raw: Raw, request_id: str) -> list[dict[str, Any]]:
    """Everything that is stored of a request."""
    found = [await raw.requests.find_one({"_id": request_id}) or {}]
    return found + [
        document async for document in raw.contexts.find({"request_id": request_id}, sort=["_id"])
    ]


async def test_what_completed_is_copied_and_the_rest_runs_anew(
    requests: RequestService, contexts: ContextManager, store: Store, raw: Raw
) -> None:
    old_id = await failed_request(requests, contexts)
    await planned(store)
    before = await documents_of(raw, old_id)
    accepted = await requests.retry(old_id, organization_id="acme")
    # Its contexts are there when it is acknowledged, whether it says so or not.
    assert await raw.contexts.count_documents({"request_id": accepted.request.id}) == 4
    await planned(store)
    new = await requests.get(accepted.request.id, organization_id="acme")
    old = await requests.get(old_id)
    assert (new.request.retry_of, new.request.reused) == (old_id, ("draft", "other"))
    assert (new.status, new.request.planned) == (RequestStatus.ACCEPTED, True)
    assert new.request.caller == CALLER
    assert new.request.submission == old.request.submission
    assert new.request.created_at > old.request.created_at
    assert new.request.deadline_at - new.request.created_at == timedelta(seconds=600)
    for name in ("draft", "other"):
        copy, original = by_step(new)[name], by_step(old)[name]
        assert (copy.status, copy.settled, copy.attempt) == (ContextStatus.COMPLETED, True, 0)
        assert (copy.output, copy.usage, copy.input) == (original.output, original.usage, original.input)
        assert copy.history == ()
    assert [by_step(new)[name].status for name in ("check", "send")] == ["pending", "blocked"]
    assert by_step(new)["check"].idempotency_key == f"{old_id}.check"
    assert by_step(new)["send"].idempotency_key == f"{new.request.id}.send"

    assert await work_off(contexts) == 2
    new = await requests.get(new.request.id)
    assert new.status is RequestStatus.COMPLETED
    assert all(context.expires_at is not None for context in new.contexts)
    assert await documents_of(raw, old_id) == before


async def test_a_retry_of_a_retry_copies_what_was_copied_and_keeps_the_first_key(
    requests: RequestService, contexts: ContextManager
) -> None:
    first = await failed_request(requests, contexts)
    second = (await requests.retry(first)).request.id
    await work_off(contexts, failing=("check",))
    third = (await requests.retry(second)).request.id
    steps = by_step(await requests.get(third))
    assert steps["draft"].output == {"text": "draft", "attempt": 1}
    assert {steps[name].idempotency_key for name in ("draft", "check")} == {
        f"{first}.draft",
        f"{first}.check",
    }


async def test_from_a_step_on_everything_that_waits_for_it_runs_anew_too(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(SUBMISSION)
    await work_off(contexts)
    with pytest.raises(NothingToRetry, match="name the step"):
        await requests.retry(accepted.request.id)
    retry = await requests.retry(accepted.request.id, from_step="check")
    assert retry.request.reused == ("draft", "other")
    assert await work_off(contexts) == 2
    assert (await requests.get(retry.request.id)).status is RequestStatus.COMPLETED


async def test_real_workers_see_the_copied_outputs_and_the_key_of_the_step_that_is_repeated(
    requests: RequestService, store: Store
) -> None:
    calls: list[BaseServiceCall] = []
    refused = {"check"}

    async def work(call: BaseServiceCall, _: OnDelta) -> BaseServiceAnswer:
        calls.append(call)
        if call.step in refused:
            raise BaseServiceRejected("rejected", "not this one")
        return BaseServiceAnswer(output={"text": f"{call.step}({call.input})"})

    async with running(*(HandlerWorker(store, work, service=service) for service in SERVICES)):
        old_id = (await requests.submit(SUBMISSION)).request.id
        assert (await ended(store, old_id)).status is RequestStatus.FAILED
        (first,) = [call for call in calls if call.step == "check"]
        refused.clear()
        calls.clear()
        new_id = (await requests.retry(old_id)).request.id
        new = await ended(store, new_id)
    assert new.status is RequestStatus.COMPLETED
    assert by_step(new)["send"].output == {"text": "send({'text': 'check(draft(tea))'})"}
    assert [call.step for call in calls] == ["check", "send"]
    assert calls[0].idempotency_key == first.idempotency_key
    assert calls[0].input == first.input == "draft(tea)"
    assert calls[1].idempotency_key == f"{new_id}.send"


async def test_a_retry_has_the_tries_that_are_set_now(requests: RequestService, store: Store) -> None:
    old_id = await failed_request(requests, ContextManager(store))
    generous = RequestService(store, max_attempts={"analysis": 9})
    steps = by_step(await requests.get((await generous.retry(old_id)).request.id))
    assert (steps["check"].max_attempts, steps["send"].max_attempts) == (9, 5)


async def test_what_has_not_ended_or_is_not_there_cannot_be_retried(
    requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    accepted = await requests.submit(SUBMISSION, caller=CALLER)
    with pytest.raises(RequestNotEnded, match="accepted"):
        await requests.retry(accepted.request.id)
    await work_off(contexts, failing=("check",))
    for request_id, organization in ((accepted.request.id, "other"), ("nothing", "acme")):
        with pytest.raises(RequestNotFound):
            await requests.retry(request_id, organization_id=organization)
    with pytest.raises(InvalidSubmission, match='did you mean "check"'):
        await requests.retry(accepted.request.id, from_step="chekc")
    assert await raw.requests.count_documents({}) == 1


async def test_the_same_key_gives_the_same_retry_and_another_body_is_a_conflict(
    requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    old_id = await failed_request(requests, contexts)
    answers = await asyncio.gather(*(requests.retry(old_id, idempotency_key="k") for _ in range(10)))
    assert len({answer.request.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    await work_off(contexts)
    again = await requests.retry(old_id, idempotency_key="k")
    assert (again.replayed, again.request.id) == (True, answers[0].request.id)
    with pytest.raises(IdempotencyConflict):
        await requests.retry(old_id, from_step="check", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await requests.submit(SUBMISSION, caller=CALLER, idempotency_key="k")
    assert await raw.requests.count_documents({}) == 2
    # Without a key every call is a retry of its own.
    assert (await requests.retry(old_id)).request.id != (await requests.retry(old_id)).request.id


async def test_a_replay_of_a_retry_is_answered_once_its_contexts_are_there(
    requests: RequestService, contexts: ContextManager, store: Store, raw: Raw
) -> None:
    """One day what it copies is gone, so nobody is told of a retry that may still have to copy it."""
    old_id = await failed_request(requests, contexts)
    new_id = (await requests.retry(old_id, idempotency_key="again")).request.id
    await planned(store)
    await raw.contexts.delete_many({"request_id": new_id})
    await raw.requests.update_one({"_id": new_id}, {"$set": {"planned": False}})
    again = await requests.retry(old_id, idempotency_key="again")
    assert (again.request.id, again.replayed) == (new_id, True)
    assert await raw.contexts.count_documents({"request_id": new_id}) == 4


@pytest.mark.parametrize("lost", ["everything", "one result", "one key"])
async def test_where_the_original_expired_before_it_was_copied_the_retry_ends_with_a_clear_error(
    requests: RequestService, contexts: ContextManager, store: Store, raw: Raw, lost: str
) -> None:
    old_id = await failed_request(requests, contexts)
    new_id = (await requests.retry(old_id)).request.id
    await planned(store)
    # As a planner leaves it that died after the request and before its contexts.
    await raw.contexts.delete_many({"request_id": new_id})
    await raw.requests.update_one({"_id": new_id}, {"$set": {"planned": False}})
    if lost == "everything":
        await raw.requests.delete_one({"_id": old_id})
        await raw.contexts.delete_many({"request_id": old_id})
    else:
        step = "draft" if lost == "one result" else "check"
        await raw.contexts.delete_one({"_id": f"{old_id}.{step}"})
    rescuer, replanner = a_rescuer(store, contexts), a_replanner(store, contexts)
    async with asyncio.timeout(30):
        while not (await requests.get(new_id)).status.ended:
            # One sweep may be too early: to the millisecond, the clock moves when it is compared again.
            await replanner.look()
            await rescuer.sweep()
            assert await work_off(contexts) == 0
    view = await requests.get(new_id)
    assert view.status is RequestStatus.FAILED
    steps = by_step(view)
    for name in ("draft", "check", "other"):
        error = steps[name].error
        assert error is not None
        assert (steps[name].status, error.code) == (ContextStatus.FAILED, "original_expired")
    assert steps["send"].status is ContextStatus.CANCELLED
    assert all(context.settled and context.expires_at is not None for context in view.contexts)
