"""The attempts of a worker, from their slot to their end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from loguru import logger

from agent_service import upkeep
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from agent_service.workers.attempts import Attempts
from agent_service.workers.execution import Execution, GoOn
from agent_service.workers.lease_keeper import LeaseKeeper
from agent_service.workers.outcome_writer import OutcomeWriter
from agent_service.workers.solitude import Solitude
from tests.support.worker_tools import (
    AT_ONCE,
    HandlerWorker,
    by_step,
    claim,
    echo,
    ended,
    error_of,
    read,
    running,
    step,
    submit,
    when,
)


async def test_an_attempt_that_breaks_off_frees_its_slot_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", format="{message}")
    run = Execution.run
    broken: list[str] = []

    async def breaks_once(self: Execution, on_worked: Callable[[], None], go_on: GoOn) -> None:
        if not broken:
            broken.append(self.context.id)
            raise RuntimeError("unforeseen")
        await run(self, on_worked, go_on)

    monkeypatch.setattr(Execution, "run", breaks_once)
    async with running(HandlerWorker(store, echo, concurrency=1)):
        first = await submit(store, step())
        await when(store, f"{first}.draft", lambda context: context.attempt == 1)
        # One slot, and the broken attempt had it.
        assert by_step(await ended(store, await submit(store, step())))["draft"].output == "hello"
    logger.remove(sink)
    assert any("broke off" in line for line in lines)


async def test_without_mongodb_a_stop_ends_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = asyncio.Event()

    async def until_stopped(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        working.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    async def away(self: ContextManager, outcomes: Sequence[Outcome]) -> frozenset[str]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(upkeep, "LAST_WRITES", timedelta(milliseconds=100))
    worker = HandlerWorker(store, until_stopped)
    await worker.start()
    request_id = await submit(store, step())
    async with asyncio.timeout(20):
        await working.wait()
        with monkeypatch.context() as patch:
            patch.setattr(ContextManager, "finish", away)
            await worker.stop()
    # Its lease still stands there, for the rescuer to find.
    context = await when(store, f"{request_id}.draft", lambda context: context.attempt == 1)
    assert context.status is ContextStatus.RUNNING
    assert context.lease is not None


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def cancels_itself() -> None:
    this_task().cancel()
    await asyncio.Event().wait()


async def is_cancelled_by_its_child() -> None:
    child = asyncio.create_task(cancel(this_task()))
    await asyncio.Event().wait()
    await child


async def is_cancelled_twice() -> None:
    task = this_task()
    asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await asyncio.Event().wait()
    finally:
        # It comes while the end of the attempt would be written.
        asyncio.get_running_loop().call_soon(task.cancel)


@pytest.mark.parametrize("cancels", [cancels_itself, is_cancelled_by_its_child, is_cancelled_twice])
async def test_a_handler_that_cancels_its_own_task_has_failed_and_costs_no_lease(
    store: Store, cancels: Callable[[], Awaitable[None]]
) -> None:
    async def broken(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.step == "draft":
            await cancels()
        return BaseServiceAnswer(output="fine")

    async with running(HandlerWorker(store, broken, concurrency=1)):
        context = by_step(await ended(store, await submit(store, tries=2)))["draft"]
        behind = by_step(await ended(store, await submit(store, step("neighbour"))))["neighbour"]
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "handler_error")
    assert (context.tries, context.attempt, context.leases_lost) == (2, 2, 0)
    assert behind.output == "fine"


async def a_group_that_fails() -> None:
    """Before Python 3.13 its task counts as cancelled after this."""

    async def fails_later() -> None:
        await asyncio.sleep(0)
        raise ValueError

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails_later())
            group.create_task(asyncio.Event().wait())


@pytest.mark.parametrize("when_told", [False, True], ids=["before the stop", "when told to end"])
async def test_a_stop_hands_back_a_context_whose_handler_was_cancelled_in_passing(
    store: Store, when_told: bool
) -> None:
    working = asyncio.Event()

    async def until_stopped(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if not when_told:
            await a_group_that_fails()
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            if when_told:
                await a_group_that_fails()
        raise AssertionError

    async with running(HandlerWorker(store, until_stopped)):
        request_id = await submit(store)
        await working.wait()
    context = await read(store, f"{request_id}.draft")
    assert (context.status, context.tries, context.lease) == (ContextStatus.PENDING, 0, None)
    assert [record.outcome for record in context.history] == [AttemptOutcome.RELEASED]


async def test_nothing_is_begun_for_what_is_cancelled_where_no_end_is_written_any_more(store: Store) -> None:
    async def broken(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        await cancels_itself()
        raise AssertionError

    (context,) = await claim(store, 1)
    contexts, ended = ContextManager(store), asyncio.Event()
    attempts = Attempts(
        LeaseKeeper(contexts, lease=timedelta(minutes=1)),
        Solitude.of(store),
        on_free=lambda _: None,
        on_written=ended.set,
        # As where the event loop ends, which cancels all tasks.
        may_write=lambda: False,
    )
    execution = Execution(
        context,
        contexts=contexts,
        handler=broken,
        outcomes=OutcomeWriter(contexts),
        lease_ends=time.monotonic() + 60,
        timeout=timedelta(minutes=1),
        backoff=AT_ONCE,
    )
    attempts.begin(execution, attempts.solitude.enter(context))
    async with asyncio.timeout(20):
        await ended.wait()
    assert (len(attempts), attempts.unwritten) == (0, 0)
    assert (await read(store, context.id)).status is ContextStatus.RUNNING


async def test_a_stop_waits_no_longer_for_a_handler_that_its_time_limit_has_left_alone(store: Store) -> None:
    working, let_go = asyncio.Event(), asyncio.Event()

    async def stubborn(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        working.set()
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()
        return BaseServiceAnswer(output="too late")

    worker = HandlerWorker(store, stubborn, timeout=0.1, shutdown_grace=300)
    await worker.start()
    request_id = await submit(store, tries=1)
    async with asyncio.timeout(30):
        await working.wait()
        await worker.stop()
    context = await read(store, f"{request_id}.draft")
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "timeout")
    let_go.set()
