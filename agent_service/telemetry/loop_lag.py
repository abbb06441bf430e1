"""LoopLag: how late the event loop gets to what is due, which is how long something held it up."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from loguru import logger

#: The time between two looks; what held the loop up for less may go unseen.
_EVERY = timedelta(milliseconds=250)
#: A lag above this is told, but not more often than every `_WARNING_EVERY`.
_TOO_LATE = timedelta(seconds=1)
_WARNING_EVERY = timedelta(seconds=60)
#: For so long a lag is remembered.
_WINDOW = timedelta(seconds=60)


class LoopLag:
    """Measures one event loop while `run` runs; `worst` is the longest lag of the last minute."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        #: Moments and lags, both in seconds; each lag is below the one before it, so the first is the worst.
        self._lags: deque[tuple[float, float]] = deque()
        self._warned: float | None = None

    def worst(self) -> timedelta:
        """The longest lag of the last minute."""
        oldest = self._monotonic() - _WINDOW.total_seconds()
        while self._lags and self._lags[0][0] < oldest:
            self._lags.popleft()
        return timedelta(seconds=self._lags[0][1] if self._lags else 0)

    async def run(self, stopping: asyncio.Event) -> None:
        """Measure until `stopping` is set."""
        while not stopping.is_set():
            due = self._monotonic() + _EVERY.total_seconds()
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY.total_seconds()):
                    await stopping.wait()
                    return
            self.observe(self._monotonic() - due)

    def observe(self, seconds: float) -> None:
        """Take one lag, and tell it if it is long."""
        now = self._monotonic()
        while self._lags and self._lags[-1][1] <= seconds:
            self._lags.pop()
        self._lags.append((now, max(seconds, 0)))
        if seconds <= _TOO_LATE.total_seconds():
            return
        if self._warned is None or now - self._warned >= _WARNING_EVERY.total_seconds():
            self._warned = now
            logger.bind(loop_lag=round(seconds, 3)).warning(
                "the event loop stood still for {:.1f} s: the process was stopped, or a handler blocks it"
                " (one that is a plain function runs in a thread)",
                seconds,
            )
