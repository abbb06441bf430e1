"""Attempts: those of one worker that are alive, and the slots that their work takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from loguru import logger

from agent_service.telemetry.log_fields import attempt_fields
from agent_service.upkeep import end_tasks
from agent_service.workers.execution import Execution
from agent_service.workers.handler_call import TO_END
from agent_service.workers.lease_keeper import KeptLease, LeaseKeeper
from agent_service.workers.solitude import Seat, Solitude
from agent_service.workers.stop_signal import StopReason


class _Attempt(NamedTuple):
    execution: Execution
    seat: Seat
    #: Monotonic seconds.
    began: float


class Attempts:
    """
    Runs each execution in a task of its own, with its lease kept until its end is written.

    Its slot is free as soon as its work is over, because what is limited is the calls at a time; `on_free` is
    called then, with how many seconds the work took, and `on_written` once its end is written. `may_write`
    says whether ends are still written: not any more where the event loop cancels all tasks. A handler that
    goes on after its attempt has ended keeps the slot: there is no way to stop it, and what it calls must not
    be called more often at a time than was asked for.
    """

    def __init__(
        self,
        keeper: LeaseKeeper,
        solitude: Solitude,
        *,
        on_free: Callable[[float], None],
        on_written: Callable[[], None],
        may_write: Callable[[], bool],
    ) -> None:
        self._keeper = keeper
        #: Who else runs in this process.
        self.solitude = solitude
        self._on_free = on_free
        self._on_written = on_written
        self._may_write = may_write
        #: Set when the last one has ended.
        self._none_left = asyncio.Event()
        #: Whether those that have not ended are cancelled.
        self._given_up = False
        self._running: dict[asyncio.Task[None], _Attempt] = {}
        #: Those of them whose work is not over.
        self._working: set[Execution] = set()
        #: What the answers take of those that have done their work, and whose ends are not written.
        self.unwritten_bytes = 0
        self._going_on: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        """How many slots are taken."""
        return len(self._working) + len(self._going_on)

    @property
    def unwritten(self) -> int:
        """How many have done their work, and wait until its outcome is written."""
        return len(self._running) - len(self._working)

    def begin(self, execution: Execution, seat: Seat) -> None:
        """Run an attempt that has a seat, and keep its lease until it has ended."""
        self._keeper.keep(KeptLease(lease=execution.lease, on_stop=execution.stop_signal.stop))
        attempt = _Attempt(execution=execution, seat=seat, began=time.monotonic())
        self._working.add(execution)
        self._start(
            attempt, partial(execution.run, partial(self._worked, attempt), partial(self._go_on, attempt))
        )

    async def end(self, grace: timedelta) -> None:
        """Give them this time, then stop them; each writes how it ended."""
        for attempt in self._running.values():
            if attempt.seat.waits:
                # It has not begun, and will not begin any more.
                attempt.execution.stop_signal.stop(StopReason.RELEASED)
        await self._wait(grace)
        for attempt in self._running.values():
            attempt.execution.stop_signal.stop(StopReason.RELEASED)
        # Where a handler has not ended by then, its attempt goes on in another task.
        await self._wait(2 * TO_END)
        self._given_up = True
        await end_tasks(list(self._running))

    async def _wait(self, limit: timedelta) -> None:
        """Wait so long until all have ended; not for the tasks that handlers keep, which are not theirs."""
        if self._running:
            self._none_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(limit.total_seconds()):
                    await self._none_left.wait()

    def _start(self, attempt: _Attempt, run: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(_run(attempt, run), name=attempt.execution.context.id)
        self._running[task] = attempt
        task.add_done_callback(self._ended)

    def _go_on(self, attempt: _Attempt, rest: Callable[[], Awaitable[None]]) -> bool:
        """Its handler keeps its task, or has cancelled it: do the rest of it in another one."""
        if not self._may_go_on():
            return False
        [kept] = [task for task, each in self._running.items() if each is attempt]
        kept.remove_done_callback(self._ended)
        kept.set_name(f"handler of {kept.get_name()}")
        del self._running[kept]
        self._start(attempt, rest)
        return True

    def _may_go_on(self) -> bool:
        """Whether nobody of ours cancels attempts, and their ends are written."""
        return not self._given_up and self._may_write()

    def _worked(self, attempt: _Attempt) -> None:
        """Its work is over: its slot is free, unless its handler goes on."""
        execution = attempt.execution
        if execution not in self._working:
            return
        self._working.discard(execution)
        self.unwritten_bytes += execution.answer_bytes
        unfinished = execution.unfinished_call
        if unfinished is None:
            self._free(attempt.began)
            return
        logger.bind(**attempt_fields(execution.context)).warning(
            "a handler goes on although its attempt has ended; its slot is taken until it ends"
        )
        self._going_on.add(unfinished)
        unfinished.add_done_callback(partial(self._call_ended, began=attempt.began))

    def _ended(self, task: asyncio.Task[None]) -> None:
        attempt = self._running.pop(task)
        if not self._running:
            self._none_left.set()
        self._keeper.drop(attempt.execution.lease)
        attempt.seat.leave()
        if task.cancelled():
            if self._may_go_on():
                log = logger.bind(**attempt_fields(attempt.execution.context))
                log.error("an attempt was cancelled; its lease will end unless its outcome is on its way")
        elif task.exception() is not None:
            log = logger.bind(**attempt_fields(attempt.execution.context))
            log.opt(exception=task.exception()).error("an attempt broke off; its lease will end")
        # Whatever it broke off with, it works no more.
        self._worked(attempt)
        self.unwritten_bytes -= attempt.execution.answer_bytes
        self._on_written()

    def _call_ended(self, call: asyncio.Future[Any], *, began: float) -> None:
        self._going_on.discard(call)
        if not call.cancelled():
            # Nobody else asks what it ended with.
            call.exception()
        self._free(began)

    def _free(self, began: float) -> None:
        """Say that a slot is free; whatever comes of that must not keep an end from being written."""
        try:
            self._on_free(time.monotonic() - began)
        except Exception:
            logger.exception("nothing could be begun in a slot that is free")


async def _run(attempt: _Attempt, run: Callable[[], Awaitable[None]]) -> None:
    # So that what the handler logs, and what it uses, tells whose it is.
    with logger.contextualize(**attempt_fields(attempt.execution.context)):
        if attempt.seat.waits:
            await _turn_of(attempt)
        # What was stopped meanwhile ends at once.
        await run()


async def _turn_of(attempt: _Attempt) -> None:
    """Wait for the turn of an attempt, or until it is stopped."""
    turn = asyncio.create_task(attempt.seat.turn(), name="turn")
    await asyncio.wait({turn, attempt.execution.stop_signal.given}, return_when=asyncio.FIRST_COMPLETED)
    turn.cancel()
