"""Pace: the pauses between the tries of one thing, and when it is time to give up."""

import asyncio
import random
from datetime import timedelta
from time import monotonic

from agent_service.domain.errors import BaseServiceUnavailable

#: The first pause at most; each further one may be twice as long.
FIRST_PAUSE = timedelta(milliseconds=200)
LONGEST_PAUSE = timedelta(seconds=5)


class Pace:
    """Counts failures in a row; gives up once they have lasted as long as the patience."""

    def __init__(self, patience: timedelta) -> None:
        self._patience = patience.total_seconds()
        self._failures = 0
        self._failing_since = 0.0

    def reset(self) -> None:
        """It went well: the next failure is the first again."""
        self._failures = 0

    async def pause_or_raise(self, error: BaseServiceUnavailable) -> None:
        """Wait before the next try, as long as the API asked for at least; raises `error` to give up."""
        now = monotonic()
        if self._failures == 0:
            self._failing_since = now
        pause = max(self._back_off(), (error.retry_after or timedelta()).total_seconds())
        self._failures += 1
        if now + pause >= self._failing_since + self._patience:
            raise error
        await asyncio.sleep(pause)

    def _back_off(self) -> float:
        doubled = FIRST_PAUSE.total_seconds() * 2.0 ** min(self._failures, 30)
        return random.uniform(0.5, 1) * min(doubled, LONGEST_PAUSE.total_seconds())
