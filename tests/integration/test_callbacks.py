"""Callbacks and settling: one context for each request that wants to be told, and nothing else changes."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.context_manager import ContextManager
from agent_service.domain.callback import CALLBACK_LIFE, EndedRequest
from agent_service.domain.context import ContextStatus
from agent_service.domain.events import Event
from agent_service.domain.request import Callback, Caller, RequestStatus
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.support.callbacks import CALLBACK, callback_of, callbacks_of, requests_with_callbacks
from tests.support.contexts import NOW, SECOND, a_request
from tests.support.explained_commands import CommandRecorder, Document, explain
from tests.support.hand_worker import claim, end, success, work_off
from tests.support.rescuers import pass_deadlines
from tests.support.settling import end as end_requests
from tests.support.submissions import CHAIN, DIAMOND
from tests.support.worker_tools import Raw

ONE_STEP: Mapping[str, Any] = {"service": "analysis", "input": {}}
#: A step that is called like the service of callbacks is a step like any other.
NAMESAKE: Mapping[str, Any] = {"steps": [{"name": "callback", "service": "analysis", "input": {}}]}
RETENTION = timedelta(days=7)


@pytest.fixture
def requests(store: Store) -> RequestService:
    return requests_with_callbacks(store)


async def submit(requests: RequestService, body: Mapping[str, Any], **options: Any) -> str:
    accepted = await requests.submit({**body, "callback": CALLBACK}, **options)
    return accepted.request.id


@pytest.mark.parametrize(
    "body", [ONE_STEP, NAMESAKE, CHAIN, DIAMOND], ids=["one", "namesake", "chain", "many"]
)
@pytest.mark.parametrize("failing", [False, True], ids=["completes", "fails"])
async def test_the_end_of_a_request_makes_one_callback(
    store: Store,
    requests: RequestService,
    contexts: ContextManager,
    raw: Raw,
    body: Mapping[str, Any],
    failing: bool,
) -> None:
    caller = Caller(organization_id="acme", user_id="u", correlation_id="c")
    request_id = await submit(requests, body, caller=caller)
    assert await callbacks_of(raw, request_id) == []
    names = {step["name"] for step in body.get("steps", [])} or {"analysis"}
    await work_off(contexts, failing=tuple(names) if failing else ())
    stored = await callback_of(raw, request_id)
    view = await requests.get(request_id)
    assert view.status is (RequestStatus.FAILED if failing else RequestStatus.COMPLETED)
    assert view.request.finished_at is not None
    assert stored["status"] == "pending"
    assert stored["input"] == {
        "url": CALLBACK["url"],
        "status": view.status.value,
        "timestamp": view.request.finished_at.isoformat(),
    }
    assert (stored["organization_id"], stored["user_id"], stored["correlation_id"]) == ("acme", "u", "c")


@pytest.mark.conformance
async def test_with_either_driver_a_callback_tells_of_the_end_that_was_just_written(
    any_store: Store, raw: Raw
) -> None:
    requests, contexts = requests_with_callbacks(any_store), ContextManager(any_store)
    request_id = await submit(requests, CHAIN)
    await work_off(contexts)
    [delivery] = await claim(contexts, "callback")
    await end(contexts, delivery, success(contexts, delivery))
    stored = await callback_of(raw, request_id)
    assert (stored["input"]["status"], stored["status"], stored["settled"]) == (
        "completed",
        "completed",
        True,
    )


async def test_a_request_without_a_callback_makes_none(
    store: Store, requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    for body in (ONE_STEP, CHAIN):
        await requests.submit(body)
    await work_off(contexts)
    assert await raw.contexts.count_documents({"service": "callback"}) == 0


async def test_a_callback_is_no_step_of_its_request(
    store: Store, requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    request_id = await submit(requests, CHAIN)
    await work_off(contexts)

    async def shown() -> tuple[list[str], RequestStatus, list[Event]]:
        view = await requests.get(request_id)
        events = [event async for event in requests.events(request_id)]
        return [context.step for context in view.contexts], view.status, events

    before = await shown()
    assert before[:2] == (["a", "b"], RequestStatus.COMPLETED)
    [delivery] = await claim(contexts, "callback")
    assert await shown() == before
    await end(contexts, delivery, success(contexts, delivery))
    stored = await callback_of(raw, request_id)
    assert (stored["status"], stored["settled"]) == ("completed", True)
    assert await shown() == before


async def test_a_callback_stays_until_long_after_its_last_try(
    store: Store, requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    request_id = await submit(requests, CHAIN)
    await work_off(contexts)
    request = (await requests.get(request_id)).request
    stored = await callback_of(raw, request_id)
    assert request.finished_at is not None
    assert request.expires_at is not None
    assert request.finished_at + CALLBACK_LIFE <= stored["deadline_at"] <= contexts.now() + CALLBACK_LIFE
    assert stored["expires_at"] >= stored["deadline_at"] + RETENTION
    assert stored["expires_at"] > request.expires_at + timedelta(hours=1)


async def test_a_cancelled_request_has_its_callback_and_a_delivery_cannot_be_cancelled(
    store: Store, requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    request_id = await submit(requests, DIAMOND)
    await requests.cancel(request_id)
    await requests.cancel(request_id)
    stored = await callback_of(raw, request_id)
    assert (stored["status"], stored["input"]["status"]) == ("pending", "cancelled")
    assert not stored["cancel_requested"]


@pytest.mark.parametrize("body", [ONE_STEP, DIAMOND], ids=["one step", "many steps"])
async def test_a_request_that_the_rescuer_ends_at_its_deadline_has_its_callback(
    store: Store, requests: RequestService, rescuer: Rescuer, raw: Raw, body: Mapping[str, Any]
) -> None:
    request_id = await submit(requests, body)
    await pass_deadlines(raw)
    await rescuer.sweep()
    stored = await callback_of(raw, request_id)
    assert (stored["status"], stored["input"]["status"]) == ("pending", "failed")
    await rescuer.sweep()
    assert await callback_of(raw, request_id) == stored


async def test_a_retry_tells_the_same_address_of_its_own_end(
    store: Store, requests: RequestService, contexts: ContextManager, raw: Raw
) -> None:
    original = await submit(requests, CHAIN)
    await work_off(contexts, failing=("a",))
    retried = (await requests.retry(original)).request
    assert retried.submission.callback == Callback(url=CALLBACK["url"])
    await work_off(contexts)
    assert (await callback_of(raw, original))["input"]["status"] == "failed"
    assert (await callback_of(raw, retried.id))["input"]["status"] == "completed"


async def test_settling_again_makes_no_second_callback_and_does_not_touch_the_first(
    store: Store, requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = await submit(requests, CHAIN)
    await work_off(contexts)
    [delivery] = await claim(contexts, "callback")
    stored = await callback_of(raw, request_id)
    await raw.contexts.update_many({"_id": {"$ne": delivery.id}}, {"$set": {"settled": False}})
    await rescuer.sweep()
    assert await raw.contexts.count_documents({"settled": False}) == 0
    assert await callback_of(raw, request_id) == stored


async def test_the_end_of_a_delivery_is_settled_by_the_rescuer_too(
    store: Store, requests: RequestService, contexts: ContextManager, rescuer: Rescuer, raw: Raw
) -> None:
    request_id = await submit(requests, NAMESAKE)
    await work_off(contexts)
    ended = {"status": ContextStatus.FAILED.value, "settled": False, "finished_at": contexts.now() - SECOND}
    await raw.contexts.update_one({"service": "callback"}, {"$set": ended})
    before = await requests.get(request_id)
    await rescuer.sweep()
    assert (await callback_of(raw, request_id))["settled"] is True
    assert await requests.get(request_id) == before


async def test_only_the_ended_that_want_to_be_told_are_read_and_by_their_ids(
    recorded_store: Store, recorder: CommandRecorder, mongodb_uri: str, raw: AsyncDatabase[Document]
) -> None:
    submission = a_request().submission
    with_callback = a_request(submission=type(submission)(steps=submission.steps, callback=Callback(url="u")))
    going_on = a_request(submission=with_callback.submission)
    without = a_request()
    for request in (with_callback, going_on, without):
        await recorded_store.requests.insert(request)
    statuses = dict.fromkeys([with_callback.id, without.id], RequestStatus.FAILED)
    await end_requests(recorded_store, statuses, at=NOW, expires_at=NOW + RETENTION)
    recorder.sent.clear()
    ids = [with_callback.id, going_on.id, without.id]
    assert await recorded_store.callbacks.ended(ids) == [
        EndedRequest(
            id=with_callback.id,
            caller=with_callback.caller,
            callback=Callback(url="u"),
            status=RequestStatus.FAILED,
            finished_at=NOW,
        )
    ]
    [command] = recorder.named("find")
    [plan] = await explain(raw, command)
    assert (plan.indexes, plan.documents) == (frozenset({"_id_"}), 3)


async def test_without_a_callback_a_single_step_is_settled_without_a_read(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    """With one it takes the long way, because more has to be written."""
    requests, contexts = requests_with_callbacks(recorded_store), ContextManager(recorded_store)
    for body, reads in ((ONE_STEP, 0), ({**ONE_STEP, "callback": CALLBACK}, 5)):
        await requests.submit(body)
        [context] = await claim(contexts, "analysis")
        recorder.sent.clear()
        await end(contexts, context, success(contexts, context))
        assert len(recorder.named("find")) == reads
