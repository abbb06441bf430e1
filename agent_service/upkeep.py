"""Upkeep: what every process does besides its work, once however many workers it has."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from functools import partial
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

from loguru import logger

from agent_service.concurrency import end_by_cancelling
from agent_service.context_manager import DEFAULT_RETENTION, ContextManager
from agent_service.replanner import Replanner
from agent_service.rescuer import Rescuer
from agent_service.scheduler import Scheduler
from agent_service.store import Store
from agent_service.tally_writer import TallyWriter
from agent_service.telemetry.loop_lag import LoopLag

#: How long whoever stops waits for last writes.
LAST_WRITES = timedelta(seconds=10)


class Upkeep:
    """
    The rescuer, the replanner, the scheduler, the tally writer, the look at the event loop and that at old
    indexes, of one process; the last to stop it ends it.

    `Upkeep.of(store)` is the one instance of a store, so that three workers in a process share it.
    """

    _of_store: ClassVar[WeakKeyDictionary[Store, Self]] = WeakKeyDictionary()

    def __init__(self, store: Store, *, lease: timedelta, retention: timedelta) -> None:
        self._store = store
        contexts = ContextManager(store, retention=retention)
        self._replanner = Replanner(store, contexts)
        self._rescuer = Rescuer(store, contexts, lease=lease, on_all_planned=self._replanner.saw_none)
        self._scheduler = Scheduler(store)
        self._tally_writer = TallyWriter(store)
        #: How late the event loop of this process is.
        self.lag = LoopLag()
        self._users = 0
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def of(
        cls,
        store: Store,
        *,
        lease: timedelta = timedelta(seconds=30),
        retention: timedelta = DEFAULT_RETENTION,
    ) -> Self:
        """The upkeep of this store; the first one to ask decides the retention, and it covers all leases."""
        upkeep = cls._of_store.setdefault(store, cls(store, lease=lease, retention=retention))
        upkeep._rescuer.cover(lease)
        return upkeep

    def start(self) -> None:
        """Begin, if nobody has yet."""
        self._users += 1
        if self._users == 1:
            self._stopping = stopping = asyncio.Event()
            loops = {
                "rescuer": self._rescuer.run,
                "replanner": self._replanner.run,
                "scheduler": self._scheduler.run,
                "tally writer": self._tally_writer.run,
                "loop lag": self.lag.run,
            }
            self._tasks = [
                self._store.supervisor.start(name, partial(run, stopping), ends=stopping.is_set)
                for name, run in loops.items()
            ]

    async def stop(self) -> None:
        """End, if nobody needs it any more; what is being written is written first."""
        if self._users == 0:
            return
        self._users -= 1
        if self._users == 0:
            self._stopping.set()
            tasks, self._tasks = self._tasks, []
            # What holds the store is let go with it.
            type(self)._of_store.pop(self._store, None)
            await end_tasks(tasks)


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Let tasks write what is left to write; without MongoDB, recovery is left to the leases."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=LAST_WRITES.total_seconds())
    for task in late:
        logger.warning("MongoDB does not answer, so {} ends unfinished", task.get_name())
    await end_by_cancelling(*late)
    await asyncio.gather(*tasks, return_exceptions=True)
