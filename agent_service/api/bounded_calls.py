"""BoundedCalls: an answer in time, and no call to MongoDB is ever cancelled for it (protocol, rule 4)."""

import asyncio
from collections.abc import Awaitable, Coroutine
from datetime import timedelta
from typing import TypeVar

from loguru import logger

from agent_service.domain.errors import AgentServiceError, StoreError
from agent_service.time_limit import TimeLimit

#: A caller is answered in under 5 s, whatever MongoDB does.
ANSWER_WITHIN = timedelta(seconds=4.5)

Result = TypeVar("Result")


class BoundedCalls:
    """Runs calls to the store, each in a task of its own that goes on when its caller stops waiting."""

    def __init__(self, limit: timedelta = ANSWER_WITHIN) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[object]] = set()

    async def run(self, call: Coroutine[object, object, Result], *, late: StoreError) -> Result:
        """The result of `call`; raises what it raised, or `late` once the time is over."""
        task = asyncio.create_task(call)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait({task}, timeout=self._limit.total_seconds())
        if not done:
            task.add_done_callback(_say_how_it_ended)
            raise late
        return task.result()

    async def wait_for(self, call: Awaitable[Result], *, late: StoreError) -> Result:
        """
        Like `run`, without a further task, of a call that goes on when nobody waits for it any more.

        What `RequestService` submits does.
        """
        limit = TimeLimit(self._limit)
        try:
            with limit:
                return await call
        except TimeoutError:
            if limit.expired:
                raise late from None
            raise

    async def finish(self, limit: timedelta) -> None:
        """Wait for calls that nobody waits for any more, at most this long."""
        if self._running:
            await asyncio.wait(self._running, timeout=limit.total_seconds())


def _say_how_it_ended(task: asyncio.Task[Result]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is None:
        return
    log = logger if isinstance(error, AgentServiceError) else logger.opt(exception=error)
    log.warning("a call that its caller had given up ended with {}: {}", type(error).__name__, error)
