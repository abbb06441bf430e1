"""Attempts: those of one worker that are alive, one for each slot that is taken."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial

from loguru import logger

from agent_service.workers.execution import Execution, StopReason
from agent_service.workers.lease_keeper import KeptLease, LeaseKeeper

#: How long whoever stops waits for last writes.
LAST_WRITES = timedelta(seconds=20)


class Attempts:
    """Runs each execution in a task of its own, with its lease kept; `on_free` is called as a slot frees."""

    def __init__(self, keeper: LeaseKeeper, *, on_free: Callable[[], None]) -> None:
        self._keeper = keeper
        self._on_free = on_free
        self._running: dict[asyncio.Task[None], Execution] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, execution: Execution) -> None:
        """Run an attempt, and keep its lease until it has ended."""
        cancel = partial(execution.stop, StopReason.CANCELLED)
        self._keeper.keep(KeptLease(lease=execution.lease, on_cancel=cancel))
        task = asyncio.create_task(execution.run(), name=execution.context.id)
        self._running[task] = execution
        task.add_done_callback(self._ended)

    async def end(self, grace: timedelta) -> None:
        """Give them this time, then stop them; each writes how it ended."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace.total_seconds())
        for execution in self._running.values():
            execution.stop(StopReason.RELEASED)
        await end_tasks(list(self._running))

    def _ended(self, task: asyncio.Task[None]) -> None:
        execution = self._running.pop(task)
        self._keeper.drop(execution.lease)
        if not task.cancelled() and task.exception() is not None:
            logger.opt(exception=task.exception()).error("an attempt broke off; its lease will end")
        self._on_free()


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Let tasks write what is left to write; without MongoDB, recovery is left to the leases."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=LAST_WRITES.total_seconds())
    for task in late:
        logger.warning("MongoDB does not answer, so {} ends unfinished", task.get_name())
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
