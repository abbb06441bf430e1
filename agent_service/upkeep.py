"""Upkeep: what every process does besides its work, once however many workers it has."""

import asyncio
from datetime import timedelta
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

from agent_service.context_manager import DEFAULT_RETENTION, ContextManager
from agent_service.rescuer import Rescuer
from agent_service.scheduler import Scheduler
from agent_service.store import Store


class Upkeep:
    """
    The rescuer and the scheduler of one store in one process; whoever starts it last stops it last.

    `Upkeep.of(store)` is the one instance of a store, so that three workers in a process share it.
    """

    _of_store: ClassVar[WeakKeyDictionary[Store, Self]] = WeakKeyDictionary()

    def __init__(self, store: Store, *, lease: timedelta, retention: timedelta) -> None:
        self._rescuer = Rescuer(store, ContextManager(store, retention=retention), lease=lease)
        self._scheduler = Scheduler(store)
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
        """The upkeep of this store; the first one to ask decides its settings."""
        if store not in cls._of_store:
            cls._of_store[store] = cls(store, lease=lease, retention=retention)
        return cls._of_store[store]

    def start(self) -> None:
        """Begin, if nobody has yet."""
        self._users += 1
        if self._users == 1:
            self._stopping = asyncio.Event()
            self._tasks = [
                asyncio.create_task(self._rescuer.run(self._stopping), name="rescuer"),
                asyncio.create_task(self._scheduler.run(self._stopping), name="scheduler"),
            ]

    async def stop(self) -> None:
        """End, if nobody needs it any more; what is being written is written first."""
        self._users -= 1
        if self._users == 0:
            self._stopping.set()
            await asyncio.gather(*self._tasks)
            self._tasks = []
