"""UnbrokenCalls: calls to MongoDB that nobody breaks off by being cancelled (protocol, rule 4)."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

from agent_service.concurrency import Supervisor

T = TypeVar("T")


class UnbrokenCalls:
    """
    Runs calls in tasks of their own, which go on to their end when whoever waits for them is cancelled.

    Broken off, nobody knows what was applied, and the driver leaves connections open that it just opened.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        #: Told of those that nobody waits for.
        self._supervisor = supervisor
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of `call`; raises what it raised."""
        task = self._remember(asyncio.create_task(call))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._supervisor.watch(task)
            raise

    def start(self, call: Coroutine[Any, Any, object]) -> None:
        """Begin a call of nobody's; the time limit of whoever is at it here is not its own."""
        task = self._remember(asyncio.create_task(call, context=contextvars.Context()))
        self._supervisor.watch(task)

    async def finish(self) -> None:
        """Wait for those that nobody waits for any more; each is bounded by its own limits."""
        while self._running:
            await asyncio.wait(self._running)

    def _remember(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
