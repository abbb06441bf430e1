"""SharedReading: one reading for all who ask within a short while; many dashboards cost as much as one."""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Generic, TypeVar

#: For so long a reading serves everybody.
_KEPT = timedelta(seconds=1)
#: One that took long serves this many times as long, so that no more than a tenth of the time is spent on it.
_TIMES_ITS_LENGTH = 10

T = TypeVar("T")


class SharedReading(Generic[T]):
    """Reads at most once at a time; who asks meanwhile gets the same result, or the same error."""

    def __init__(
        self, read: Callable[[], Awaitable[T]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._reading: asyncio.Task[T] | None = None
        #: Until when (monotonic seconds) the last reading serves.
        self._good_until = 0.0

    async def get(self) -> T:
        """The last reading if it is young enough, or a fresh one. Raises what reading raises."""
        reading = self._reading
        if reading is None or (reading.done() and self._monotonic() >= self._good_until):
            # In a context of its own: the time limit of the first who asks is not that of the others.
            reading = asyncio.create_task(self._read_once(), context=contextvars.Context())
            # Where nobody waits any more, nobody else asks how it ended.
            reading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._reading = reading
        # Who stops waiting takes it from nobody.
        return await asyncio.shield(reading)

    async def _read_once(self) -> T:
        began = self._monotonic()
        self._good_until = began
        result = await self._read()
        ended = self._monotonic()
        self._good_until = ended + max(_KEPT.total_seconds(), _TIMES_ITS_LENGTH * (ended - began))
        return result
