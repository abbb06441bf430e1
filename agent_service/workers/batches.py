"""Batches: what arrives one by one is taken together; a lone item at once, many under load a moment later."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from typing import Generic, TypeVar

T = TypeVar("T")

#: After so many lingers without a batch there is no load any more.
_FORGOTTEN_AFTER = 5


class Batches(Generic[T]):
    """
    A queue whose items are taken in batches of at most `most`.

    A lone item is handed over at once. Where items follow each other, because the last batch had several and
    was taken a moment ago, those of the next `linger` are waited for: one operation for many costs a fraction
    of as many operations, and under load nobody notices so little.
    """

    def __init__(self, *, most: int, linger: timedelta) -> None:
        self._most = most
        self._linger = linger.total_seconds()
        self._items: deque[T] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._closed = False
        #: How many the last batch had, and when (monotonic seconds) it was taken.
        self._last, self._taken_at = 0, 0.0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item; it is taken by a later `next` even after `close`."""
        self._items.append(item)
        self._arrived.set()
        if len(self._items) >= self._most:
            self._full.set()

    def close(self) -> None:
        """What is there is taken without waiting, and then `next` has nothing more."""
        self._closed = True
        self._arrived.set()
        self._full.set()

    async def next(self) -> list[T]:
        """Wait for items and take them; empty once it is closed and nothing is left."""
        while not self._items and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        if self._under_load() and len(self._items) < self._most and not self._closed:
            self._full.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger):
                    await self._full.wait()
        return self.take(self._most)

    def take(self, most: int) -> list[T]:
        """Take what is there, at most so many, without waiting."""
        batch = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        self._last, self._taken_at = len(batch), time.monotonic()
        return batch

    def _under_load(self) -> bool:
        return self._last > 1 and time.monotonic() - self._taken_at < _FORGOTTEN_AFTER * self._linger
