"""LoopThread: an event loop in a thread of its own, for programs that are not asynchronous."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for any number of threads, with or without event loops of their own."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # A program that ends without closing must not hang.
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        # The garbage collector may close a generator while its thread holds this.
        self._lock = threading.RLock()
        self._closed = False
        self._thread.start()

    def run(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        What the coroutine returns or raises; KeyboardInterrupt in this thread cancels it.

        Raises RuntimeError after `close`.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed")
            outcome = asyncio.run_coroutine_threadsafe(begin(), self._loop)
        try:
            return outcome.result()
        finally:
            # Does nothing unless we were interrupted.
            outcome.cancel()

    def iterate(self, begin: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
        """The items of an asynchronous generator, which is closed with this one."""
        # Of an interrupted step the next one must await the end.
        items, one_at_a_time = begin(), asyncio.Lock()

        async def take() -> list[T]:
            async with one_at_a_time:
                try:
                    return [await anext(items)]
                except StopAsyncIteration:
                    return []

        async def finish() -> None:
            async with one_at_a_time:
                await items.aclose()

        try:
            while found := self.run(take):
                yield found[0]
        finally:
            self._finish(finish)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what still runs, run `last` and end the thread; it can be repeated."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            closing = asyncio.run_coroutine_threadsafe(_cancel_all_and(last), self._loop)
        try:
            closing.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _finish(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close a generator; where it is closed by the garbage collector, without waiting for that."""
        with self._lock:
            if self._closed:
                return
            outcome = asyncio.run_coroutine_threadsafe(finish(), self._loop)
        if threading.current_thread() is not self._thread:
            outcome.result()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


async def _cancel_all_and(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last()
