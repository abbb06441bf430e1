"""The line of claimed contexts, by a clock of the test's own."""

from datetime import timedelta

import pytest

from agent_service.workers.prefetch import Claimable, Prefetch
from agent_service.workers.solitude import Seat
from tests.support.contexts import a_context

LEASE = timedelta(seconds=30)


class Clock:
    """Monotonic seconds that go on when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def claimable(clock: Clock) -> Claimable:
    seat = Seat(alone=False, on_leave=lambda seat: None)
    return Claimable(context=a_context(), seat=seat, lease_ends=clock() + 30, claimed_at=clock())


def learned(seconds: float, *, concurrency: int = 10) -> Prefetch:
    """The line of a worker whose attempts take so long."""
    line = Prefetch(concurrency, lease=LEASE)
    line.took(seconds)
    return line


def test_nothing_is_claimed_ahead_before_it_is_known_how_long_attempts_take() -> None:
    line = Prefetch(10, lease=LEASE)
    assert (line.allowed, line.wanted) == (0, 0)


@pytest.mark.parametrize(
    ("seconds", "allowed"), [(0.0, 10), (0.02, 10), (0.1, 10), (0.2, 5), (0.5, 2), (1.001, 0), (30.0, 0)]
)
def test_as_much_is_claimed_ahead_as_begins_within_a_tenth_of_a_second(seconds: float, allowed: int) -> None:
    assert learned(seconds).allowed == allowed


def test_what_lately_took_long_counts_more_than_what_was() -> None:
    line = learned(0.01)
    for _ in range(20):
        line.took(30)
    assert line.allowed == 0
    for _ in range(60):
        line.took(0.01)
    assert line.allowed == 10


def test_more_is_claimed_ahead_only_when_a_quarter_of_it_has_begun() -> None:
    clock = Clock()
    line = learned(0.01)
    assert line.wanted == 10
    for _ in range(10):
        line.append(claimable(clock))
    wanted = []
    while line:
        line.pop()
        wanted.append(line.wanted)
    assert wanted == [0, 0, 3, 4, 5, 6, 7, 8, 9, 10]


def test_the_first_claimed_begins_first() -> None:
    clock, line = Clock(), learned(0.01)
    waiting = [claimable(clock) for _ in range(3)]
    for each in waiting:
        line.append(each)
    assert line.pop() is waiting[0]
    assert line.take_all() == waiting[1:]
    assert len(line) == 0


@pytest.mark.parametrize(
    ("lease", "longest"), [(timedelta(seconds=30), 1.0), (timedelta(seconds=3), 0.5)], ids=["long", "short"]
)
def test_what_does_not_begin_soon_is_overdue_and_then_nothing_more_is_claimed_ahead(
    lease: timedelta, longest: float
) -> None:
    clock = Clock()
    line = Prefetch(10, lease=lease, monotonic=clock)
    line.took(0.01)
    assert line.overdue_in() is None
    line.append(claimable(clock))
    clock.seconds += longest / 2
    line.append(claimable(clock))
    assert line.overdue_in() == timedelta(seconds=longest / 2)
    clock.seconds += longest / 2
    assert line.overdue_in() == timedelta(0)
    assert len(line.take_all()) == 2
    assert (line.allowed, line.wanted, line.overdue_in()) == (0, 0, None)
