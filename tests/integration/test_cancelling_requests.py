"""A request is cancelled before, during and after its calls, and every call is really stopped."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import RequestAlreadyEnded, RequestNotFound
from agent_service.domain.request import Caller, RequestStatus
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.notifier import Topic
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import answer, delayed, events, hang
from tests.support.base_service_stub import BaseServiceStub
from tests.support.open_subscriptions import forget_later_looks, silence
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    Raw,
    by_step,
    ended,
    error_of,
    running,
    step,
    streamed,
    submit,
    the_run,
    when,
)

HOUR = timedelta(hours=1)


def worker_at(store: Store, stub: BaseServiceStub, **options: Any) -> GenerativeWorker:
    """A worker that does nothing by itself for an hour: it neither polls nor renews."""
    usual: dict[str, Any] = {"poll_interval": HOUR, "lease_seconds": HOUR, "shutdown_grace": 0}
    return GenerativeWorker(store, base_url=stub.url, **(usual | options))


async def listening(store: Store) -> None:
    """Wait until this process is notified of what is to stop."""
    assert await store.notifier.opened(timedelta(seconds=DEADLINE_SECONDS))


async def test_what_has_not_begun_ends_at_once(store: Store, requests: RequestService) -> None:
    request_id = await submit(store, step("draft"), step("check", after=("draft",)))
    view = await requests.cancel(request_id)
    assert view.status is RequestStatus.CANCELLED
    assert view.request.cancel_requested
    assert [(context.status, error_of(context)) for context in view.contexts] == [
        (ContextStatus.CANCELLED, "cancelled")
    ] * 2
    assert all(context.settled and context.attempt == 0 for context in view.contexts)


async def test_a_running_call_is_stopped_through_a_notification_at_once(
    store: Store, requests: RequestService
) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(events({"delta": "so far"}, then=hang()))
        async with running(worker_at(store, stub)):
            request_id = await submit(store, step("draft"), step("check", after=("draft",)))
            call = await stub.wait_for_calls()
            await streamed(store, f"{request_id}.draft", "so far")
            await requests.cancel(request_id)
            await call.wait_closed()
            view = await ended(store, request_id)
    draft, check = view.contexts
    assert view.status is RequestStatus.CANCELLED
    assert (draft.status, draft.history[-1].outcome) == (ContextStatus.CANCELLED, AttemptOutcome.CANCELLED)
    assert (draft.history[-1].chunks, draft.attempt) == (1, 1)
    assert (check.status, error_of(check)) == (ContextStatus.CANCELLED, "cancelled")
    assert len(stub.calls) == 1


async def test_without_notifications_a_running_call_is_stopped_with_the_next_renewal(
    mongodb_uri: str, database_name: str, store: Store, requests: RequestService
) -> None:
    async with Store.connect(mongodb_uri, database=database_name) as deaf, BaseServiceStub() as stub:
        silence(deaf)
        stub.behave(hang())
        async with running(worker_at(deaf, stub, lease_seconds=4)):
            request_id = await submit(store)
            call = await stub.wait_for_calls()
            await requests.cancel(request_id)
            await call.wait_closed()
            view = await ended(store, request_id)
    assert view.status is RequestStatus.CANCELLED
    # It was not that its lease ended.
    assert view.contexts[0].history[-1].outcome is AttemptOutcome.CANCELLED


async def test_without_notifications_those_in_the_same_process_hear_it_at_once(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    silence(store)
    async with BaseServiceStub() as stub:
        stub.behave(hang())
        async with running(worker_at(store, stub)):
            request_id = await submit(store)
            call = await stub.wait_for_calls()
            await RequestService(store).cancel(request_id)
            await call.wait_closed()
            assert (await ended(store, request_id)).status is RequestStatus.CANCELLED


@pytest.mark.parametrize(
    ("flag", "status", "code"),
    [
        ("cancel_requested", ContextStatus.CANCELLED, "cancelled"),
        ("deadline_passed", ContextStatus.FAILED, "deadline_exceeded"),
    ],
)
async def test_what_was_flagged_before_it_was_claimed_is_never_called_for(
    store: Store, raw: Raw, flag: str, status: ContextStatus, code: str
) -> None:
    request_id = await submit(store)
    await raw.contexts.update_one({"_id": f"{request_id}.draft"}, {"$set": {flag: True}})
    async with BaseServiceStub() as stub, running(worker_at(store, stub)):
        context = by_step(await ended(store, request_id))["draft"]
    assert (context.status, error_of(context), context.attempt) == (status, code, 1)
    assert stub.calls == []


async def test_a_running_call_is_stopped_when_its_deadline_is_said_to_have_passed(
    store: Store, raw: Raw
) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(hang())
        async with running(worker_at(store, stub)):
            request_id = await submit(store)
            call = await stub.wait_for_calls()
            await listening(store)
            await raw.contexts.update_many({}, {"$set": {"deadline_passed": True}})
            await call.wait_closed()
            view = await ended(store, request_id)
    [context] = view.contexts
    assert (view.status, context.status) == (RequestStatus.FAILED, ContextStatus.FAILED)
    assert (error_of(context), context.history[-1].outcome) == ("deadline_exceeded", AttemptOutcome.FAILED)


async def test_a_completion_that_comes_all_the_same_keeps_its_output(
    store: Store, requests: RequestService, raw: Raw
) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(delayed(go_on, answer({"output": "done"})))
        worker = worker_at(store, stub)
        async with running(worker):
            request_id = await submit(store, step("draft"), step("check", after=("draft",)))
            await stub.wait_for_calls()
            # Nobody here hears of it before the answer has come.
            the_run(worker)._keeper._kept.clear()
            await requests.cancel(request_id)
            go_on.set()
            view = await ended(store, request_id)
    draft, check = view.contexts
    assert (draft.status, draft.output) == (ContextStatus.COMPLETED, "done")
    assert check.status is ContextStatus.CANCELLED
    assert view.status is RequestStatus.CANCELLED
    assert len(stub.calls) == 1


async def test_what_would_be_tried_again_is_not(store: Store, requests: RequestService) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer(status=503))
        async with running(worker_at(store, stub, backoff=RetryPolicy(base=HOUR, cap=HOUR))):
            request_id = await submit(store)
            await when(
                store, f"{request_id}.draft", lambda context: context.status is ContextStatus.SCHEDULED
            )
            await requests.cancel(request_id)
            view = await ended(store, request_id)
    assert view.status is RequestStatus.CANCELLED
    assert view.contexts[0].status is ContextStatus.CANCELLED


async def test_cancelling_twice_changes_nothing(store: Store, requests: RequestService, raw: Raw) -> None:
    request_id = await submit(store)
    first = await requests.cancel(request_id)
    before = await raw.contexts.find().to_list(), await raw.requests.find().to_list()
    assert await requests.cancel(request_id) == first
    assert (await raw.contexts.find().to_list(), await raw.requests.find().to_list()) == before


async def test_what_has_ended_cannot_be_cancelled(store: Store, requests: RequestService, raw: Raw) -> None:
    async with BaseServiceStub() as stub, running(worker_at(store, stub)):
        request_id = await submit(store)
        await ended(store, request_id)
    with pytest.raises(RequestAlreadyEnded, match="completed"):
        await requests.cancel(request_id)
    assert (await requests.get(request_id)).status is RequestStatus.COMPLETED


async def test_the_request_of_another_organization_is_not_there(
    store: Store, requests: RequestService
) -> None:
    request_id = await submit(store, caller=Caller(organization_id="theirs"))
    with pytest.raises(RequestNotFound):
        await requests.cancel(request_id, organization_id="ours")
    assert not (await requests.get(request_id)).request.cancel_requested
    with pytest.raises(RequestNotFound):
        await requests.cancel("nothing")


async def test_a_process_that_does_not_hold_a_context_asks_nothing_about_it(
    store: Store, requests: RequestService, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    read = store.leases.read

    async def counted(context_ids: Any, **options: Any) -> Any:
        looks.append(list(context_ids))
        return await read(context_ids, **options)

    async with BaseServiceStub() as stub:
        stub.behave(hang())
        async with running(worker_at(store, stub, concurrency=1)):
            held = await submit(store)
            call = await stub.wait_for_calls()
            await listening(store)
            forget_later_looks(store)
            waiting = await submit(store)
            monkeypatch.setattr(store.leases, "read", counted)
            with store.notifier.subscribe(Topic.STOP, waiting) as subscription:
                await requests.cancel(waiting)
                assert await subscription.wait(timedelta(seconds=DEADLINE_SECONDS))
            assert looks == []
            await requests.cancel(held)
            await call.wait_closed()
            assert looks == [[f"{held}.draft"]]
            await ended(store, held)
