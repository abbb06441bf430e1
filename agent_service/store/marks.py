"""Marks: says in the background of many documents at once that something is done."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Generic, TypeVar

from loguru import logger

from agent_service.concurrency import Supervisor
from agent_service.domain.errors import StoreError

#: How late a mark may be; the rescuer leaves for longer what is not marked.
_WITHIN = timedelta(milliseconds=500)

T = TypeVar("T")


class _Batch(Generic[T]):
    """What is gathered to be marked together."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self.hurry = asyncio.Event()


class Marks(ABC, Generic[T]):
    """Gathers what is done for half a second, and marks it; the rescuer does that for what is lost here."""

    def __init__(self, supervisor: Supervisor, *, name: str) -> None:
        self._supervisor = supervisor
        #: What it does, for people.
        self._name = name
        self._gathering: _Batch[T] | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def add(self, items: Iterable[T]) -> None:
        """Mark these soon."""
        if self._gathering is None:
            self._gathering = batch = _Batch[T]()
            task = self._supervisor.background(self._name, self._write(batch))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        self._gathering.items.extend(items)

    async def flush(self) -> None:
        """Mark at once what was added so far."""
        if self._gathering is not None:
            self._gathering.hurry.set()
        if self._writing:
            await asyncio.wait(set(self._writing))

    @abstractmethod
    async def _mark(self, items: Sequence[T]) -> None:
        """Write it. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""

    async def _write(self, batch: _Batch[T]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WITHIN.total_seconds()):
                await batch.hurry.wait()
        # What is added from here on is for the next one.
        self._gathering = None
        try:
            await self._mark(batch.items)
        except StoreError as error:
            logger.debug("{} did not succeed, and is left to the rescuer: {}", self._name, error)
