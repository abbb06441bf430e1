"""A handler that is a plain function: it runs in a thread, and its slot is taken until that has ended."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from agent_service import upkeep
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import BaseServiceRejected, LeaseLost
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.workers import execution
from agent_service.workers.threaded_handler import BlockingOnDelta
from agent_service.workers.worker_base import ClientWorker
from tests.support.stored_chunks import all_chunks
from tests.support.waiting import until
from tests.support.worker_tools import (
    AT_ONCE,
    DEADLINE_SECONDS,
    Raw,
    by_step,
    ended,
    error_of,
    read,
    running,
    step,
    streamed,
    submit,
    the_run,
    when,
)

who = contextvars.ContextVar("who", default="nobody")


class PlainWorker(ClientWorker):
    """A worker whose handler is a plain function of the test."""

    service: ClassVar[str] = "generation"

    def __init__(
        self,
        store: Store,
        function: Callable[[BaseServiceCall, BlockingOnDelta], Any],
        **options: Any,
    ) -> None:
        super().__init__(store, **{"backoff": AT_ONCE, "shutdown_grace": 0, **options})
        self._function = function

    def handle(self, call: BaseServiceCall, on_delta: Any) -> Any:  # a plain function runs in a thread
        return self._function(call, on_delta)


class Thread:
    """A handler that streams one piece and waits for the test; and what became of it."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.refused: list[str] = []
        self.at_a_time = self.most_at_a_time = 0
        self._lock = threading.Lock()

    def __call__(self, call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
        if call.step == "quick":
            return BaseServiceAnswer(output="quick")
        with self._lock:
            self.at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        self.began.set()
        assert self.go_on.wait(DEADLINE_SECONDS)
        try:
            on_delta("more")
        except LeaseLost:
            self.refused.append(call.context_id)
        finally:
            with self._lock:
                self.at_a_time -= 1
        return BaseServiceAnswer(output="late")

    async def has_begun(self) -> None:
        await until(self.began.is_set)


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thread]:
    """Lets the threads end at the end of the test, whatever happened."""
    monkeypatch.setattr(execution, "_LATE", timedelta(milliseconds=50))
    monkeypatch.setattr(upkeep, "LAST_WRITES", timedelta(seconds=5))
    handler = Thread()
    yield handler
    handler.go_on.set()


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_its_attempt(store: Store) -> None:
    seen: list[tuple[bool, str]] = []
    here = threading.get_ident()

    def handle(call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
        seen.append((threading.get_ident() == here, who.get()))
        who.set("the thread")
        return BaseServiceAnswer(output=call.input, usage={"tokens": 1})

    who.set("the test")
    async with running(PlainWorker(store, handle)):
        context = by_step(await ended(store, await submit(store)))["draft"]
    assert (context.output, context.usage) == ("hello", {"tokens": 1})
    assert seen == [(False, "the test")]
    assert who.get() == "the test"


async def test_it_streams_in_order_and_each_piece_is_taken_before_the_next(store: Store) -> None:
    def handle(call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
        for number in range(200):
            on_delta(f"{number},")
        return BaseServiceAnswer(output="done")

    async with running(PlainWorker(store, handle)):
        request_id = await submit(store)
        await ended(store, request_id)
    events = RequestService(store, max_attempts={}).events(request_id)
    text = "".join([event.delta or "" async for event in events])
    assert text == "".join(f"{number}," for number in range(200))


async def test_a_function_that_blocks_holds_up_nothing_else(store: Store, thread: Thread) -> None:
    async with running(PlainWorker(store, thread, concurrency=2)):
        slow = await submit(store)
        await thread.has_begun()
        assert by_step(await ended(store, await submit(store, step("quick"))))["quick"].output == "quick"
        assert (await read(store, f"{slow}.draft")).status is ContextStatus.RUNNING
        thread.go_on.set()
        assert by_step(await ended(store, slow))["draft"].output == "late"
    assert len(await streamed(store, f"{slow}.draft", "more")) == 1


async def test_a_thread_that_is_late_ends_its_attempt_and_keeps_its_slot(
    store: Store, thread: Thread
) -> None:
    worker = PlainWorker(store, thread, timeout=0.2, concurrency=1)
    async with running(worker):
        hanging = await submit(store, tries=1)
        view = await ended(store, hanging)
        behind = await submit(store, step("quick"))
        assert len(the_run(worker)._attempts) == 1
        assert (await read(store, f"{behind}.quick")).attempt == 0
        thread.go_on.set()
        assert by_step(await ended(store, behind))["quick"].output == "quick"
        await until(lambda: len(the_run(worker)._attempts) == 0)
    context = by_step(view)["draft"]
    assert (context.status, error_of(context), context.output) == (ContextStatus.FAILED, "timeout", None)
    assert thread.refused == [context.id]
    assert await all_chunks(store, context.id, 1) == []


async def test_there_are_never_more_threads_than_slots(store: Store, thread: Thread) -> None:
    worker = PlainWorker(store, thread, timeout=0.2, concurrency=2)
    async with running(worker):
        request_id = await submit(store, *(step(f"step_{number}") for number in range(5)), tries=1)
        await until(lambda: thread.at_a_time == 2)
        found = [await when(store, f"{request_id}.step_{number}", has_failed) for number in range(2)]
        assert len(the_run(worker)._attempts) == 2
        assert [error_of(context) for context in found] == ["timeout"] * 2
        thread.go_on.set()
        await ended(store, request_id)
        await until(lambda: len(the_run(worker)._attempts) == 0)
    assert thread.most_at_a_time == 2


def has_failed(context: Any) -> bool:
    return context.status is ContextStatus.FAILED


async def test_a_cancelled_request_ends_although_its_thread_goes_on(store: Store, thread: Thread) -> None:
    async with running(PlainWorker(store, thread, timeout=600, lease_seconds=2)):
        request_id = await submit(store)
        await thread.has_begun()
        await RequestService(store, max_attempts={}).cancel(request_id)
        view = await ended(store, request_id)
        thread.go_on.set()
        await until(lambda: thread.refused == [f"{request_id}.draft"])
    assert by_step(view)["draft"].status is ContextStatus.CANCELLED


async def test_a_thread_whose_lease_was_lost_writes_nothing(store: Store, raw: Raw, thread: Thread) -> None:
    async with running(PlainWorker(store, thread, timeout=600, lease_seconds=1)):
        request_id = await submit(store)
        await thread.has_begun()
        # As if another worker had it for long.
        changed = {"lease.token": "another", "lease.expires_at": store.clock.now() + timedelta(hours=1)}
        await raw.contexts.update_one({"_id": f"{request_id}.draft"}, {"$set": changed})
        # The attempt ends with the next renewal, and its thread finds that out when it streams.
        await until(lambda: not tasks_named(f"{request_id}.draft"))
        thread.go_on.set()
        await until(lambda: thread.refused)
    context = await read(store, f"{request_id}.draft")
    assert context.lease is not None
    assert (context.status, context.lease.token, context.history) == (ContextStatus.RUNNING, "another", ())
    assert await all_chunks(store, context.id, 1) == []


def tasks_named(name: str) -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == name]


async def test_a_stop_hands_back_what_a_thread_works_on_and_does_not_wait_for_it(
    store: Store, thread: Thread
) -> None:
    worker = PlainWorker(store, thread, timeout=600)
    await worker.start()
    request_id = await submit(store, tries=1)
    await thread.has_begun()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await worker.stop()
    context = await read(store, f"{request_id}.draft")
    assert (context.status, context.tries) == (ContextStatus.PENDING, 0)
    assert [record.outcome for record in context.history] == [AttemptOutcome.RELEASED]
    assert thread.at_a_time == 1
    assert [each.daemon for each in threading.enumerate() if each.name == f"handler of {context.id}"] == [
        True
    ]
    thread.go_on.set()
    await until(lambda: thread.refused == [context.id])


@pytest.mark.parametrize(
    ("error", "code", "tries"),
    [
        (BaseServiceRejected("no_such_language", "none"), "no_such_language", 1),
        (KeyError("secret"), "handler_error", 2),
        (SystemExit(3), "handler_error", 2),
        (KeyboardInterrupt(), "handler_error", 2),
        (StopIteration(), "handler_error", 2),
        (asyncio.CancelledError(), "handler_error", 2),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whatever_a_function_raises_ends_its_attempt_and_nothing_else(
    store: Store, error: BaseException, code: str, tries: int
) -> None:
    def handle(call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
        if call.step == "quick":
            return BaseServiceAnswer(output="quick")
        raise error

    async with running(PlainWorker(store, handle)):
        context = by_step(await ended(store, await submit(store, tries=2)))["draft"]
        assert by_step(await ended(store, await submit(store, step("quick"))))["quick"].output == "quick"
    assert (context.status, error_of(context), context.tries) == (ContextStatus.FAILED, code, tries)


async def test_a_function_that_returns_a_coroutine_is_told_so(store: Store) -> None:
    async def work() -> BaseServiceAnswer:
        raise AssertionError("nobody awaits this")

    async with running(PlainWorker(store, lambda call, on_delta: work())):
        context = by_step(await ended(store, await submit(store, tries=1)))["draft"]
    assert error_of(context) == "handler_error"
