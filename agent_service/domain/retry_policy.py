"""RetryPolicy: how long a context waits before its next try."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

#: A hold that a base service asked for is never shorter or longer than these.
SHORTEST_HOLD, LONGEST_HOLD = timedelta(seconds=1), timedelta(minutes=15)

#: 2.0 to this power is far above any cap that a timedelta can hold, and far below what a float can.
_LARGEST_EXPONENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    Exponential back-off with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog).

    `base` is the longest wait after the first try, doubled with every further one up to `cap`.
    """

    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(seconds=300)

    def delay(self, tries: int, random: Callable[[], float]) -> timedelta:
        """
        A wait between nothing and the limit for this number of tries, all lengths equally likely.

        `random` gives numbers from 0 to 1. The first try is 1; fewer (all were refunded) count as one.
        """
        exponent = min(max(tries - 1, 0), _LARGEST_EXPONENT)
        seconds = self.base.total_seconds() * 2.0**exponent
        limit = self.cap if seconds >= self.cap.total_seconds() else timedelta(seconds=seconds)
        return limit * random()


def hold_for(retry_after: timedelta) -> timedelta:
    """How long a service is left alone that asked for `retry_after` (protocol, rule 11)."""
    return min(max(retry_after, SHORTEST_HOLD), LONGEST_HOLD)
