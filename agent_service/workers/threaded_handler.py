"""ThreadedHandler: runs a handler that is a plain function, each attempt in a thread of its own."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError as CancelledInLoop
from contextlib import suppress
from functools import partial
from typing import TypeAlias, cast

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.errors import LeaseLost
from agent_service.workers.handler_call import broke_off

#: What a plain function streams through: returns when the piece was taken.
BlockingOnDelta: TypeAlias = Callable[[str], None]
BlockingHandler: TypeAlias = Callable[[BaseServiceCall, BlockingOnDelta], BaseServiceAnswer]


def is_plain_function(handler: Callable[..., object]) -> bool:
    """Whether a handler would hold up the event loop: it, and what it wraps, is not an `async def`."""
    return not inspect.iscoroutinefunction(inspect.unwrap(handler))


class ThreadedHandler:
    """
    A plain function as a handler of the event loop.

    There are never more threads than slots, since an attempt keeps its slot until its thread has ended. The
    threads are daemons: nothing can stop one, and the process does not wait for them when it exits.
    """

    def __init__(self, function: BlockingHandler) -> None:
        self._function = function

    def __call__(self, call: BaseServiceCall, on_delta: OnDelta) -> asyncio.Future[BaseServiceAnswer]:
        """Begin; the future is done when the thread has ended, and cancelling it only tells the thread."""
        loop = asyncio.get_running_loop()
        told_to_end = threading.Event()
        ended = _ThreadEnd(told_to_end, loop)
        run = partial(_run, self._function, call, _Deltas(on_delta, told_to_end, loop), ended, loop)
        context = contextvars.copy_context()
        name = f"handler of {call.context_id}"
        threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
        return ended


class _ThreadEnd(asyncio.Future[BaseServiceAnswer]):
    """What a thread ended with."""

    def __init__(self, told_to_end: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._told_to_end = told_to_end

    def cancel(self, msg: object = None) -> bool:
        """Tell the thread that nobody waits for it; says that it goes on all the same."""
        self._told_to_end.set()
        return False


class _Deltas:
    """
    Streams from the thread, as long as the attempt goes on.

    It does not know the future that the thread ends: what a function raises refers to what it was given.
    """

    def __init__(
        self, on_delta: OnDelta, told_to_end: threading.Event, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._on_delta = on_delta
        self._told_to_end = told_to_end
        self._loop = loop

    def __call__(self, delta: str) -> None:
        """Hand in a piece of text and wait until it was taken. Raises `LeaseLost` and what `OnDelta` does."""
        if self._told_to_end.is_set() or self._loop.is_closed():
            raise LeaseLost("the attempt has ended; nothing more may be streamed")
        adding = self._add(delta)
        try:
            asyncio.run_coroutine_threadsafe(adding, self._loop).result()
        except CancelledInLoop:
            raise LeaseLost("the worker has ended; nothing more may be streamed") from None

    async def _add(self, delta: str) -> None:
        if self._told_to_end.is_set():
            raise LeaseLost("the attempt has ended; nothing more may be streamed")
        await self._on_delta(delta)


def _run(
    function: BlockingHandler,
    call: BaseServiceCall,
    on_delta: BlockingOnDelta,
    ended: _ThreadEnd,
    loop: asyncio.AbstractEventLoop,
) -> None:
    """What one thread does: call the function, and tell the event loop how it ended."""
    end: Callable[[], None]
    try:
        answer: object = function(call, on_delta)
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("`handle` returned a coroutine: write `async def handle`")
    except BaseException as error:  # noqa: BLE001 - whatever it raises ends its attempt and nothing else
        end = partial(ended.set_exception, broke_off(error))
    else:
        end = partial(ended.set_result, cast("BaseServiceAnswer", answer))
    # The event loop is closed where the worker is gone.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(end)
    # What the function raised refers to this frame through its traceback: nothing may refer back to it.
    del ended, end
