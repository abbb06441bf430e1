"""Attempts: those of one worker that are alive, one for each slot that is taken."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from loguru import logger

from agent_service.upkeep import end_tasks
from agent_service.workers.execution import Execution, StopReason
from agent_service.workers.lease_keeper import KeptLease, LeaseKeeper


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
