"""Supervisor: runs the loops and background tasks of one process, none of which may end unnoticed."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, NoReturn

from loguru import logger

from agent_service.domain.errors import AgentServiceError, LoopFailed

#: An essential loop that fails more often than so many times in this time has failed for good.
_RESTARTS, _RESTARTS_WITHIN = 3, timedelta(minutes=1)
#: Before it is started again; once it has failed for good, the longer time, so that the process can still
#: write and renew what it holds while it stops.
_PAUSE, _PAUSE_WHILE_FAILED = timedelta(milliseconds=100), timedelta(seconds=1)
#: For so long after a failure the process calls itself unhealthy, although it goes on.
_UNHEALTHY_FOR = timedelta(minutes=1)
#: How long a cancelled task has to end before it is cancelled again.
_CANCEL_AGAIN = timedelta(milliseconds=500)


class Supervisor:
    """
    One for each process: every loop of its workers, its maintenance and its API is started here.

    A loop that raises, or returns before its end is expected, is logged with its traceback and counted, and
    the process is unhealthy. An essential loop is started again, three times a minute at most. Where that
    does not help, and for every other loop, the process has failed: whoever called `on_failed` is told, and
    `wait` raises `LoopFailed`.
    """

    def __init__(
        self,
        *,
        count: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Called with the name of a loop for each of its failures.
        self._count = count
        self._monotonic = monotonic
        self._last_failure: tuple[float, str] | None = None
        self._failure: LoopFailed | None = None
        self._failed = asyncio.Event()
        self._on_failed: list[Callable[[LoopFailed], None]] = []
        self._background: set[asyncio.Task[Any]] = set()

    def start(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        ends: Callable[[], bool],
        of: str = "",
        essential: bool = False,
    ) -> asyncio.Task[None]:
        """
        Start a loop; `name` says what it does, and `of` whose it is, such as a service.

        `ends` says whether somebody asked it to end, so that it may return. The task ends when the loop has,
        and never raises; to cancel it asks the loop to end, too.
        """
        task_name = f"{of} {name}" if of else name
        return asyncio.create_task(self._run(name, task_name, run, ends, essential), name=task_name)

    def background(self, name: str, call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """
        Start something that is no loop and that nobody need wait for; no time limit of the caller is its own.

        Where it raises what nobody foresaw, that is logged and counted; the process stays healthy.
        """
        task = asyncio.create_task(call, name=name, context=contextvars.Context())
        self.watch(task)
        return task

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Tell how a task ends that nobody waits for, or nobody waits for any more."""
        self._background.add(task)
        task.add_done_callback(self._background_ended)

    def on_failed(self, tell: Callable[[LoopFailed], None]) -> Callable[[], None]:
        """Call `tell` once if the process fails; returns what takes that back."""
        self._on_failed.append(tell)

        def forget() -> None:
            if tell in self._on_failed:
                self._on_failed.remove(tell)

        return forget

    async def wait(self) -> NoReturn:
        """Wait until the process has failed. Raises `LoopFailed`."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    @property
    def failure(self) -> LoopFailed | None:
        """What the process failed of, if it has."""
        return self._failure

    @property
    def trouble(self) -> str:
        """Why the process is unhealthy: what has failed for good or in the last minute; empty if nothing."""
        if self._failure is not None:
            return str(self._failure)
        if self._last_failure is None:
            return ""
        at, what = self._last_failure
        return what if self._monotonic() - at < _UNHEALTHY_FOR.total_seconds() else ""

    async def _run(
        self,
        name: str,
        task_name: str,
        run: Callable[[], Awaitable[None]],
        ends: Callable[[], bool],
        essential: bool,
    ) -> None:
        failures: deque[float] = deque(maxlen=_RESTARTS + 1)
        failures_at_end = 0
        while True:
            error = await _failure_of(run)
            if error is None and ends():
                return
            self._last_failure = (self._monotonic(), self._note(name, task_name, error))
            failures_at_end += ends()
            if _is_cancelled() or failures_at_end > _RESTARTS:
                return
            failures.append(self._monotonic())
            if not essential:
                self._give_up(f"{task_name} failed", error)
                return
            if len(failures) > _RESTARTS and failures[-1] - failures[0] < _RESTARTS_WITHIN.total_seconds():
                self._give_up(f"{task_name} failed {len(failures)} times within a minute", error)
            pause = _PAUSE if self._failure is None else _PAUSE_WHILE_FAILED
            await asyncio.sleep(pause.total_seconds())

    def _note(self, name: str, task_name: str, error: BaseException | None) -> str:
        what = f"{task_name} failed: {type(error).__name__}" if error else f"{task_name} ended unasked"
        logger.bind(loop=name).opt(exception=error).error("{}", what)
        self._count(name)
        return what

    def _give_up(self, what: str, error: BaseException | None) -> None:
        if self._failure is not None:
            return
        reason = f" ({type(error).__name__})" if error else ""
        self._failure = LoopFailed(f"{what}{reason}, so this process stops working")
        self._failure.__cause__ = error
        logger.error("{}", self._failure)
        self._failed.set()
        for tell in list(self._on_failed):
            tell(self._failure)

    def _background_ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if isinstance(error, AgentServiceError):
            logger.debug("{} ended with {}: {}", task.get_name(), type(error).__name__, error)
            return
        self._note("background", task.get_name(), error)


async def run_together(*loops: Coroutine[Any, Any, None]) -> None:
    """
    Run until all of these have ended, or one raises; then the others end, and this raises the same.

    Unlike in a TaskGroup, no cancellation that gets lost keeps it waiting.
    """
    tasks = [asyncio.create_task(each) for each in loops]
    running, failed = set(tasks), list[asyncio.Task[None]]()
    try:
        while running and not failed:
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # The driver now and then lets a cancellation of its own out, which nobody asked for.
            failed = [task for task in ended if task.cancelled() or task.exception()]
    finally:
        await end_by_cancelling(*tasks)
    for task in failed:
        task.result()


async def end_by_cancelling(*tasks: asyncio.Task[Any]) -> None:
    """
    Cancel these until they have ended, whatever they end with.

    Before Python 3.12 `asyncio.wait_for`, with which the driver waits, loses a cancellation that comes in the
    same moment as an answer.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_CANCEL_AGAIN.total_seconds())


async def _failure_of(run: Callable[[], Awaitable[None]]) -> BaseException | None:
    """Run a loop to its end; returns what it raised. Only whoever cancelled this task ends it otherwise."""
    try:
        await run()
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        # The driver now and then lets a cancellation of its own out; nobody asked this loop to end.
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return error
    return None


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
