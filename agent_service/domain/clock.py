"""ServerClock: the time of the MongoDB primary, known without asking it each time (protocol, rule 6)."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: Seconds for which a sample can win over newer and slower ones; two clocks drift apart.
MAX_SAMPLE_AGE = 60.0

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

_RECENT_SAMPLES = 16
#: A sample is slow when its round trip is above this many times the best recent one, plus this many seconds.
_SLOW_FACTOR, _SLOW_SECONDS = 2.0, 0.001
#: What two right samples may differ by beyond their round trips: drift, and a server time in milliseconds.
_TOLERANCE = 0.010


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    server_time: datetime
    #: The monotonic time that `server_time` belongs to, give or take half the round trip.
    middle: float
    round_trip: float
    received: float

    def at(self, moment: float) -> datetime:
        return self.server_time + timedelta(seconds=moment - self.middle)

    @property
    def microseconds(self) -> int:
        """The server's time since 1970."""
        return (self.server_time - _EPOCH) // _MICROSECOND

    def contradicts(self, other: "_Sample") -> bool:
        """Whether the two cannot both be right: the server's clock was set, or this process was suspended."""
        apart = abs((self.server_time - other.at(self.middle)).total_seconds())
        return apart > (self.round_trip + other.round_trip) / 2 + _TOLERANCE


class ServerClock:
    """
    Tells the server's time from samples of it, running on with the monotonic clock between them.

    It is off by half the round trip of the sample it keeps, at most. All times are seconds of `monotonic`.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        local: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._monotonic = monotonic
        self._local = local
        self._kept: _Sample | None = None
        #: The server's time of the kept sample in microseconds since 1970, and its monotonic time.
        self._base, self._middle = 0, 0.0
        #: What `now` last told, and the same in milliseconds since 1970.
        self._told, self._told_milliseconds = _EPOCH, 0
        self._measured = False
        self._recent: deque[_Sample] = deque(maxlen=_RECENT_SAMPLES)

    @property
    def measured(self) -> bool:
        """Whether the time comes from the current primary."""
        return self._measured

    def observe(self, *, server_time: datetime, sent: float, received: float) -> None:
        """
        Take the server's `localTime` from a question sent and answered at these moments.

        A slow sample is dropped, unless no better one is recent or it proves the one that is kept wrong.
        A `server_time` without a time zone is UTC, as the driver gives it.
        """
        if server_time.tzinfo is None:
            server_time = server_time.replace(tzinfo=UTC)
        round_trip = max(received - sent, 0.0)
        sample = _Sample(
            server_time=server_time,
            middle=received - round_trip / 2,
            round_trip=round_trip,
            received=received,
        )
        if self._kept is None or not self._measured or sample.contradicts(self._kept):
            self._recent.clear()
        self._recent.append(sample)
        self._measured = True
        self._kept = self._choose(received)
        self._base, self._middle = self._kept.microseconds, self._kept.middle

    def reset(self) -> None:
        """The primary changed: the next sample is kept whatever it is; until then the last one goes on."""
        self._measured = False

    def now(self) -> datetime:
        """
        The server's time in UTC, in whole milliseconds since that is what BSON keeps.

        Before the first sample it is the local time.
        """
        if self._kept is None:
            now = self._local().astimezone(UTC)
            return now.replace(microsecond=now.microsecond // 1000 * 1000)
        # Asked several times for each attempt, so it is counted in whole numbers, and many ask in the same
        # millisecond.
        passed = round((self._monotonic() - self._middle) * 1_000_000)
        milliseconds = (self._base + passed) // 1000
        if milliseconds != self._told_milliseconds:
            self._told_milliseconds = milliseconds
            self._told = _EPOCH + timedelta(milliseconds=milliseconds)
        return self._told

    def _choose(self, moment: float) -> _Sample:
        """The newest of the recent samples that are not slow; the one just taken is among the recent ones."""
        recent = [sample for sample in self._recent if moment - sample.received <= MAX_SAMPLE_AGE]
        best = min(sample.round_trip for sample in recent)
        slow = best * _SLOW_FACTOR + _SLOW_SECONDS
        return next(sample for sample in reversed(recent) if sample.round_trip <= slow)
