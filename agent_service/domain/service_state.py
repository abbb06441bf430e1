"""
Service state: whether a base service may be called now; the holds on it and its breaker (protocol, rule 12).

    closed ──too many calls fail──▶ open ──its time passed, work waits──▶ probing ──answered──▶ ramping
      ▲                              ▲  ◀──────────the probe failed──────────┘                     │ │
      │                              └──────────────────calls fail again───────────────────────────┘ │
      └────────────────────────────────────────────ten seconds later─────────────────────────────────┘

Every move has the next epoch, and the store makes it only where the epoch is still the one that was read.
All times are the server's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

#: Calls are counted over this long, in windows that do not overlap.
WINDOW = timedelta(seconds=30)
#: A window so young may lack what other processes have to tell.
SETTLING = timedelta(milliseconds=250)
#: Below so many calls a share of failures says nothing; a service that is being tried anew gets less credit.
LEAST_CALLS, LEAST_CALLS_RAMPING = 20, 3
#: The share of failed calls above which a service counts as broken.
FAILING_SHARE = 0.5
#: So many failures to connect, and not one answer, say the same sooner.
UNREACHABLE_CALLS = 5
#: How long the breaker stays open at first, doubled with each opening in a row, and at most.
FIRST_OPEN, LONGEST_OPEN = timedelta(seconds=5), timedelta(minutes=5)
#: How long it takes until every process calls as much as it may.
RAMP = timedelta(seconds=10)

#: What the hold is called that a base service asked for, and what the breaker is called among the holds.
RETRY_AFTER, BREAKER = "retry_after", "breaker"

_LARGEST_EXPONENT = 20


class BreakerState(StrEnum):
    """Where the breaker of a service stands."""

    #: The service is called.
    CLOSED = "closed"
    #: Nobody calls it before a time.
    OPEN = "open"
    #: One attempt in the whole fleet tries it.
    PROBING = "probing"
    #: It is called again, a little more each second.
    RAMPING = "ramping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A reason not to call a service, until a time or, where `until` is None, until somebody lifts it."""

    name: str
    reason: str
    since: datetime
    until: datetime | None

    def active(self, now: datetime) -> bool:
        """Whether it has not ended."""
        return self.until is None or self.until > now


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLease:
    """The right of one worker to try the service, until `expires_at`."""

    token: str
    worker: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """`opened` counts the openings in a row; `until` is when an open one may be tried."""

    state: BreakerState = BreakerState.CLOSED
    since: datetime | None = None
    until: datetime | None = None
    opened: int = 0
    reason: str = ""
    probe: ProbeLease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    Calls, and how many of them failed, of those how many could not connect; and how many were answered.

    An answer may be a failure too; a call without one always is.
    """

    calls: int = 0
    failures: int = 0
    unreachable: int = 0
    answered: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            calls=self.calls + other.calls,
            failures=self.failures + other.failures,
            unreachable=self.unreachable + other.unreachable,
            answered=self.answered + other.answered,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the whole fleet told of its calls since `started_at`."""

    started_at: datetime
    counts: Counts
    #: The last failure of which anybody told.
    last_error: str = ""

    def open(self, now: datetime) -> bool:
        """Whether calls are still counted in it."""
        return now < self.started_at + WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """All that is known of one service; where nothing is stored, it is closed and nothing holds it."""

    service: str
    epoch: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    window: Window | None = None
    holds: Mapping[str, Hold] = field(default_factory=dict)

    def counted(self, now: datetime) -> Counts:
        """The counts of the window that is open now."""
        return self.window.counts if self.window is not None and self.window.open(now) else Counts()


class Permission(NamedTuple):
    """
    How many attempts may be in flight in one worker now.

    `changes_at` is when to ask again, if no news come before; None if only news can change it. `probe` says
    that the one attempt has to be won in the whole fleet first.
    """

    limit: int
    changes_at: datetime | None = None
    probe: bool = False


def holds_of(state: ServiceState, now: datetime) -> list[Hold]:
    """Every hold that has not ended, the breaker among them."""
    active = [hold for hold in state.holds.values() if hold.active(now)]
    breaker = breaker_at(state, now)
    if breaker.state in (BreakerState.OPEN, BreakerState.PROBING):
        until = breaker.probe.expires_at if breaker.probe else breaker.until
        since = breaker.since or now
        active.append(Hold(name=BREAKER, reason=breaker.reason, since=since, until=until))
    return active


def breaker_at(state: ServiceState, now: datetime) -> Breaker:
    """The breaker as it counts now: one whose ramp is over is closed, whatever is stored."""
    breaker = state.breaker
    if breaker.state is BreakerState.RAMPING and now >= (breaker.since or now) + RAMP:
        return Breaker(since=(breaker.since or now) + RAMP)
    return breaker


def permission(state: ServiceState, now: datetime, *, concurrency: int) -> Permission:
    """What one worker may do now."""
    # Asked before every call, and nearly always answered by this.
    if not state.holds and state.breaker.state is BreakerState.CLOSED:
        return Permission(limit=concurrency)
    holding = [hold.until for hold in state.holds.values() if hold.active(now)]
    if holding:
        ends = [until for until in holding if until is not None]
        return Permission(limit=0, changes_at=max(ends) if len(ends) == len(holding) else None)
    breaker = breaker_at(state, now)
    match breaker.state:
        case BreakerState.CLOSED:
            return Permission(limit=concurrency)
        case BreakerState.RAMPING:
            seconds = max(now - (breaker.since or now), timedelta(0)) // timedelta(seconds=1)
            limit = min(2**seconds, concurrency)
            changes_at = (breaker.since or now) + timedelta(seconds=seconds + 1)
            return Permission(limit=limit, changes_at=None if limit == concurrency else changes_at)
        case BreakerState.OPEN | BreakerState.PROBING:
            until = breaker.probe.expires_at if breaker.probe else breaker.until
            if until is not None and until > now:
                return Permission(limit=0, changes_at=until)
            return Permission(limit=1, probe=True)


def why_broken(state: ServiceState, now: datetime) -> str | None:
    """Why the breaker should open, if it should: the counts of the whole fleet, in words."""
    breaker = breaker_at(state, now)
    counts = state.counted(now)
    match breaker.state:
        case BreakerState.CLOSED:
            least = LEAST_CALLS
        case BreakerState.RAMPING:
            least = LEAST_CALLS_RAMPING
        case _:
            return None
    last = f"; the last error: {state.window.last_error}" if state.window and state.window.last_error else ""
    if counts.calls >= least and counts.failures >= FAILING_SHARE * counts.calls:
        return f"{counts.failures} of {counts.calls} calls failed{last}"
    if counts.unreachable >= UNREACHABLE_CALLS and counts.answered == 0:
        return f"{counts.unreachable} calls could not connect, and none was answered{last}"
    return None


def opened(state: ServiceState, now: datetime, reason: str) -> Breaker:
    """The breaker after too many calls, or the probe, failed."""
    openings = breaker_at(state, now).opened + 1
    length = min(FIRST_OPEN * 2 ** min(openings - 1, _LARGEST_EXPONENT), LONGEST_OPEN)
    return Breaker(state=BreakerState.OPEN, since=now, until=now + length, opened=openings, reason=reason)


def probing(state: ServiceState, now: datetime, probe: ProbeLease) -> Breaker:
    """The breaker while one worker tries the service."""
    return replace(state.breaker, state=BreakerState.PROBING, since=now, until=None, probe=probe)


def given_back(state: ServiceState, now: datetime) -> Breaker:
    """The breaker after a probe that showed nothing: anybody may try at once."""
    return replace(state.breaker, state=BreakerState.OPEN, since=now, until=now, probe=None)


def ramping(state: ServiceState, now: datetime) -> Breaker:
    """The breaker after a probe that the service answered."""
    return Breaker(state=BreakerState.RAMPING, since=now, opened=state.breaker.opened)


def closed(now: datetime) -> Breaker:
    """The breaker after the ramp."""
    return Breaker(since=now)
