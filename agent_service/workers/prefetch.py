"""Prefetch: what a worker has claimed ahead of its free slots, and how much that may be."""

import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from agent_service.domain.context import Context
from agent_service.workers.solitude import Seat

#: What is claimed ahead, at most, where there are fewer slots: with fewer at a time each costs more to claim.
MOST_AHEAD = 128
#: What is claimed ahead shall begin within this.
_BEGINS_WITHIN = timedelta(milliseconds=100)
#: What has not begun after so much longer is in the way of an idle peer, and is handed back.
_LONGEST_WAIT = timedelta(seconds=1)
#: How much the latest attempt counts in the mean of their durations.
_WEIGHT = 0.2


class Claimable(NamedTuple):
    """A claimed context that has not begun, and its seat in this process; times are monotonic seconds."""

    context: Context
    seat: Seat
    lease_ends: float
    claimed_at: float


class Prefetch:
    """
    The line of claimed contexts that wait for a slot, the first claimed first.

    While attempts are short it may grow to `most`, so that no slot waits for a claim; while they are long it
    stays empty, because an idle peer could do that work at once.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        lease: timedelta,
        most: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = concurrency
        self._most = concurrency if most is None else most
        self._longest_wait = min(_LONGEST_WAIT, lease / 6).total_seconds()
        self._monotonic = monotonic
        self._line: deque[Claimable] = deque()
        #: The mean duration of recent attempts in seconds; None until one has ended.
        self._duration: float | None = None

    def __len__(self) -> int:
        return len(self._line)

    @property
    def allowed(self) -> int:
        """How many may wait: the last of them would begin within a tenth of a second."""
        if self._duration is None:
            return 0
        if self._duration <= 0:
            return self._most
        begin_in_time = self._concurrency * _BEGINS_WITHIN.total_seconds() / self._duration
        return int(min(self._most, begin_in_time))

    @property
    def wanted(self) -> int:
        """
        How many more to claim ahead; none before a quarter of them have begun, so that claims are batches.

        A quarter and no more, because calls that began together end together: what waits is all there is for
        them until the next claim has its answer.
        """
        missing = self.allowed - len(self._line)
        return missing if missing * 4 >= self.allowed else 0

    def took(self, seconds: float) -> None:
        """An attempt was at work for so long."""
        before = seconds if self._duration is None else self._duration
        self._duration = before + _WEIGHT * (seconds - before)

    def append(self, claimable: Claimable) -> None:
        """Put one at the end of the line."""
        self._line.append(claimable)

    def pop(self) -> Claimable:
        """Take the one that was claimed first. Raises `IndexError` where none waits."""
        return self._line.popleft()

    def take_all(self) -> list[Claimable]:
        """Take everything that waits, to hand it back."""
        if self.overdue:
            # Attempts take longer now than those that have ended.
            self._duration = max(self._duration or 0, float(self._concurrency))
        waiting = list(self._line)
        self._line.clear()
        return waiting

    @property
    def overdue(self) -> bool:
        """Whether the first one has waited too long."""
        return bool(self._line) and self._overdue_at() <= self._monotonic()

    def overdue_in(self) -> timedelta | None:
        """How long until the first one has waited too long; None where none waits."""
        if not self._line:
            return None
        return timedelta(seconds=max(self._overdue_at() - self._monotonic(), 0))

    def _overdue_at(self) -> float:
        return self._line[0].claimed_at + self._longest_wait
