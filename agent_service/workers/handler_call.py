"""A handler's work on one attempt: waited for, told to end, and left alone where it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

from loguru import logger

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.errors import BaseServiceUnavailable

#: What does the work of an attempt: calls the base service, or is a worker's own code.
Handler: TypeAlias = Callable[[BaseServiceCall, OnDelta], Awaitable[BaseServiceAnswer]]

#: How long a handler has to end that was told to, for instance to close its connections.
TO_END = timedelta(milliseconds=500)


class CallStoppedError(Exception):
    """The handler was told to end before it had an answer."""


class CallOverdueError(Exception):
    """The handler had no answer in time."""


class CallLeftAloneError(Exception):
    """The handler has ended after all; its attempt went on without it, long ago."""


class HandlerCall:
    """
    One handler's work, done in the task that waits for it: one of its own would cost more than all else here.

    Once `stopped` is done, and after `within`, the task is cancelled, which tells the handler to end. Where
    it does not, `on_left_alone` is called with why, and with the task: the handler keeps that for as long as
    it likes, and its attempt goes on in another one.
    """

    def __init__(
        self,
        *,
        stopped: asyncio.Future[None],
        within: timedelta,
        on_left_alone: Callable[[Exception, asyncio.Task[Any]], None],
    ) -> None:
        self._stopped = stopped
        self._within = within
        self._on_left_alone = on_left_alone
        #: The task, while the handler is at work in it.
        self._task: asyncio.Task[Any] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        #: Why the handler was told to end.
        self._told: type[CallStoppedError | CallOverdueError] | None = None
        self._left_alone = False
        #: How often the task had been cancelled when the handler began, and, if it was, when it was told to
        #: end: before Python 3.13 a TaskGroup whose child failed leaves one behind.
        self._cancelled_before = self._cancelled_until_told = 0

    async def answer(self, begun: Awaitable[BaseServiceAnswer]) -> BaseServiceAnswer:
        """
        What the handler answers.

        Raises what it raised, but nothing that would end the event loop, such as SystemExit; where it was
        told to end `CallOverdueError`, or `CallStoppedError` unless it had an answer all the same; and
        `CallLeftAloneError` where that was given up. CancelledError is raised where the task was cancelled
        from outside, or by the handler itself: that looks the same from here.
        """
        task = self._begin()
        try:
            answer = await begun
        except BaseException as error:
            self._end()
            if self._left_alone:
                raise CallLeftAloneError from None
            if self._is_from_outside(error, task):
                raise
            if task.cancelling() > self._cancelled_before:
                await self._forget_cancellations(task)
            if self._told is None and isinstance(error, Exception):
                raise
            late = _answer_in(begun)
            if late is None:
                raise self._instead_of(error) from None
            answer = late
        finally:
            # A future keeps what it ended with, whose traceback refers to this frame.
            del begun
        self._end()
        if self._left_alone:
            raise CallLeftAloneError
        if task.cancelling() > self._cancelled_before:
            await self._forget_cancellations(task)
        if self._told is CallOverdueError:
            raise CallOverdueError
        return answer

    def _begin(self) -> asyncio.Task[Any]:
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelled_before = self._cancelled_until_told = task.cancelling()
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(self._within.total_seconds(), self._tell, CallOverdueError)
        self._stopped.add_done_callback(self._tell_stopped)
        return task

    def _end(self) -> None:
        """The handler has ended."""
        task, self._task = self._task, None
        if task is not None and self._told is not None:
            task.uncancel()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._stopped.remove_done_callback(self._tell_stopped)

    def _tell_stopped(self, _: object) -> None:
        self._tell(CallStoppedError)

    def _tell(self, reason: type[CallStoppedError | CallOverdueError]) -> None:
        """Tell the handler to end."""
        if self._task is None or self._told is not None:
            return
        self._told = reason
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(TO_END.total_seconds(), self._leave_alone)
        self._cancelled_until_told = self._task.cancelling()
        self._task.cancel()

    def _leave_alone(self) -> None:
        if self._task is not None and self._told is not None:
            self._left_alone = True
            self._on_left_alone(self._told(), self._task)

    def _is_from_outside(self, error: BaseException, task: asyncio.Task[Any]) -> bool:
        """Whether somebody else ends the whole attempt; the handler has ended."""
        if isinstance(error, GeneratorExit):
            # Where the event loop has ended before the task, the coroutine is closed by whoever collects it.
            return not _is_running(task)
        return isinstance(error, asyncio.CancelledError) and task.cancelling() > self._cancelled_until_told

    async def _forget_cancellations(self, task: asyncio.Task[Any]) -> None:
        """What the handler left behind is not meant for what comes after it in its task."""
        while task.cancelling() > self._cancelled_before:
            task.uncancel()
        try:
            # What has not reached it is raised here; before Python 3.13 nothing else takes it back.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if task.cancelling() > self._cancelled_before:
                raise

    def _instead_of(self, error: BaseException) -> Exception:
        """What is raised in the place of what the handler ended with."""
        if self._told is not None:
            # Whatever a handler makes of being told to end, it was told.
            return self._told()
        if isinstance(error, asyncio.CancelledError):
            return cancelled_itself()
        return broke_off(error)


def cancelled_itself() -> Exception:
    """What an attempt is said to have failed with whose handler ended as if it had been told to."""
    return BaseServiceUnavailable("handler_error", "the handler cancelled itself")


def broke_off(error: BaseException) -> Exception:
    """What an attempt is said to have failed with whose handler raised this."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    name = type(error).__name__
    logger.opt(exception=error).error("the handler raised {}", name)
    return BaseServiceUnavailable(
        "handler_error", f"the handler raised {name}; the worker's log has the details"
    )


def _is_running(task: asyncio.Task[Any]) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def _answer_in(begun: Awaitable[BaseServiceAnswer]) -> BaseServiceAnswer | None:
    """The answer of what runs outside of the event loop, and cannot be kept from having one."""
    if isinstance(begun, asyncio.Future) and begun.done() and not begun.cancelled():
        return None if begun.exception() else begun.result()
    return None
