"""A handler of somebody else's that never ends costs its own attempt and no more than its time."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import LeaseLost
from agent_service.domain.request import RequestStatus
from agent_service.store import Store
from agent_service.workers import execution
from tests.support.stored_chunks import all_chunks
from tests.support.waiting import until
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    HandlerWorker,
    by_step,
    ended,
    error_of,
    read,
    running,
    step,
    submit,
    the_run,
    when,
)

#: Far below the time after which a test fails, far above what anything else takes.
TIMEOUT = 0.3


@pytest.fixture(autouse=True)
def hardly_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is given up as soon as its time is over."""
    monkeypatch.setattr(execution, "_LATE", timedelta(milliseconds=50))


async def never(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    """Hang on a step that is named so, and answer at once for all others."""
    if call.step == "hangs":
        await asyncio.Event().wait()
    return BaseServiceAnswer(output="done")


async def test_a_handler_that_never_ends_times_out_and_is_tried_again(store: Store) -> None:
    async with running(HandlerWorker(store, never, timeout=TIMEOUT)), asyncio.timeout(DEADLINE_SECONDS):
        view = await ended(store, await submit(store, step("hangs"), tries=2))
    (context,) = view.contexts
    assert (context.status, error_of(context), context.tries) == (ContextStatus.FAILED, "timeout", 2)
    assert [record.outcome for record in context.history] == [AttemptOutcome.RETRYING, AttemptOutcome.FAILED]
    assert [record.error.code for record in context.history if record.error] == ["timeout"] * 2


async def test_a_handler_that_was_slow_once_succeeds_the_next_time(store: Store) -> None:
    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.attempt == 1:
            await asyncio.Event().wait()
        return BaseServiceAnswer(output=call.attempt)

    async with running(HandlerWorker(store, generate, timeout=TIMEOUT)), asyncio.timeout(DEADLINE_SECONDS):
        view = await ended(store, await submit(store))
    assert (view.status, view.contexts[0].output) == (RequestStatus.COMPLETED, 2)


async def test_a_handler_that_outlives_the_deadline_of_its_request_fails_for_good(store: Store) -> None:
    async with running(HandlerWorker(store, never, timeout=60)), asyncio.timeout(DEADLINE_SECONDS):
        view = await ended(store, await submit(store, step("hangs"), deadline_seconds=5))
    (context,) = view.contexts
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "deadline_exceeded")
    assert context.tries == 1


async def test_the_slot_of_a_handler_that_timed_out_is_free_again(store: Store) -> None:
    worker = HandlerWorker(store, never, timeout=TIMEOUT, concurrency=1)
    async with running(worker), asyncio.timeout(DEADLINE_SECONDS):
        hanging = await submit(store, step("hangs"), tries=1)
        await when(store, f"{hanging}.hangs", lambda context: context.attempt == 1)
        behind = [await submit(store) for _ in range(3)]
        views = [await ended(store, request_id) for request_id in (hanging, *behind)]
    assert [view.status for view in views] == [RequestStatus.FAILED, *[RequestStatus.COMPLETED] * 3]


async def test_a_handler_that_refuses_to_be_stopped_ends_its_attempt_and_keeps_its_slot(store: Store) -> None:
    released, told, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        while call.step == "hangs" and not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                told.set()
        try:
            await on_delta("text")
        except LeaseLost:
            refused.set()
        return BaseServiceAnswer(output="done")

    worker = HandlerWorker(store, stubborn, timeout=TIMEOUT, concurrency=1)
    async with running(worker):
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                hanging, behind = await submit(store, step("hangs"), tries=1), await submit(store)
                views = [await ended(store, hanging)]
                assert told.is_set()
                # Nothing more is called while the one place for calls is taken.
                assert len(the_run(worker)._attempts) == 1
                assert (await read(store, f"{behind}.draft")).attempt == 0
                released.set()
                views.append(await ended(store, behind))
                await until(lambda: len(the_run(worker)._attempts) == 0)
        finally:
            # What it does afterwards has no effect any more.
            released.set()
        await refused.wait()
        late = by_step(await ended(store, hanging))["hangs"]
    assert [view.status for view in views] == [RequestStatus.FAILED, RequestStatus.COMPLETED]
    assert (error_of(late), late.output, len(late.history)) == ("timeout", None, 1)
    assert await all_chunks(store, late.id, 1) == []


async def test_a_worker_stops_although_a_handler_refuses_to(store: Store) -> None:
    released, began = asyncio.Event(), asyncio.Event()
    handlers: list[asyncio.Task[BaseServiceAnswer] | None] = []

    async def stubborn(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        handlers.append(asyncio.current_task())
        began.set()
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        return BaseServiceAnswer(output="done")

    worker = HandlerWorker(store, stubborn, timeout=600)
    await worker.start()
    try:
        request_id = await submit(store, tries=1)
        await began.wait()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await worker.stop()
        context = await read(store, f"{request_id}.draft")
        (handler,) = handlers
        assert handler is not None
        assert not handler.done()
    finally:
        released.set()
    await handler
    assert (context.status, context.tries) == (ContextStatus.PENDING, 0)
    assert await read(store, f"{request_id}.draft") == context
