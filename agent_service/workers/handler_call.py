"""A handler's work on one attempt: begun, waited for, and left alone where it does not end."""

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
_TO_END = timedelta(milliseconds=500)


class CallStoppedError(Exception):
    """The handler was told to end before it had an answer."""


class CallOverdueError(Exception):
    """The handler had no answer in time."""


def begin_call(
    handler: Handler, call: BaseServiceCall, on_delta: OnDelta
) -> asyncio.Future[BaseServiceAnswer]:
    """
    Begin the work; the future is done when the handler has really ended, told to or not.

    It never fails with what would end the event loop, such as SystemExit.
    """
    begun = handler(call, on_delta)
    # What runs outside of the event loop is a future of its own kind; a task around it could be cancelled
    # while it goes on.
    return begun if isinstance(begun, asyncio.Future) else asyncio.ensure_future(_contained(begun))


async def answer_of(
    calling: asyncio.Future[BaseServiceAnswer], *, stopped: asyncio.Future[None], within: timedelta
) -> BaseServiceAnswer:
    """
    What the handler answers.

    Raises what it raised, `CallStoppedError` once `stopped` is done, and `CallOverdueError`; then the handler
    was told to end, and may go on for as long as it likes. An answer is taken, though, whenever it came.
    """
    try:
        overdue = await _is_overdue(calling, stopped, within)
        if overdue:
            raise CallOverdueError
        answered = calling.done() and not calling.cancelled() and calling.exception() is None
        # Whatever a handler makes of being stopped, it was stopped.
        if stopped.done() and not answered:
            raise CallStoppedError
        if calling.cancelled():
            raise BaseServiceUnavailable("handler_error", "the handler cancelled itself")
        return _result(calling)
    finally:
        # What the handler raised refers to this frame through its traceback: nothing may refer back to it.
        del calling


def broke_off(error: BaseException) -> Exception:
    """What an attempt is said to have failed with whose handler raised this."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    name = type(error).__name__
    logger.opt(exception=error).error("the handler raised {}", name)
    return BaseServiceUnavailable(
        "handler_error", f"the handler raised {name}; the worker's log has the details"
    )


async def _is_overdue(
    calling: asyncio.Future[BaseServiceAnswer], stopped: asyncio.Future[None], within: timedelta
) -> bool:
    """Wait for the end of the call, and tell it to end where it is stopped or, as is returned, overdue."""
    try:
        await _either(calling, stopped, within.total_seconds())
        overdue = not calling.done() and not stopped.done()
        if not calling.done():
            calling.cancel()
            await asyncio.wait({calling}, timeout=_TO_END.total_seconds())
    except asyncio.CancelledError:
        # Cancelled from outside: the handler must not go on without us.
        calling.cancel()
        raise
    return overdue


def _result(calling: asyncio.Future[BaseServiceAnswer]) -> BaseServiceAnswer:
    try:
        return calling.result()
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        raise broke_off(error) from error
    finally:
        del calling


async def _either(calling: asyncio.Future[Any], stopped: asyncio.Future[Any], seconds: float) -> None:
    """
    Wait until one of the two is done, or so long; `asyncio.wait` does the same at several times the cost.

    What has not begun does so in any case.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    alarm = loop.call_later(seconds, end)
    calling.add_done_callback(end)
    stopped.add_done_callback(end)
    try:
        await over
    finally:
        alarm.cancel()
        calling.remove_done_callback(end)
        stopped.remove_done_callback(end)


async def _contained(begun: Awaitable[BaseServiceAnswer]) -> BaseServiceAnswer:
    try:
        return await begun
    except (SystemExit, KeyboardInterrupt) as error:
        # A task that raises one of these takes the event loop with it.
        raise broke_off(error) from error
