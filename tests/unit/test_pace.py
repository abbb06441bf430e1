"""Pace: some follow each other at once, and on the whole the spacing is kept."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from agent_service.store.notifier import pace
from agent_service.store.notifier.pace import Pace

SPACING = 0.02


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def counted(of: Pace, clock: Clock, number: int, *, each: float) -> list[float]:
    """The pauses before each of so many, which take `each` seconds."""
    pauses = []
    for _ in range(number):
        pauses.append(round(max(of.pause().total_seconds(), 0), 6))
        clock.seconds += pauses[-1] + each
        of.count()
    return pauses


def test_what_is_slower_than_the_spacing_never_waits(clock: Clock) -> None:
    assert counted(Pace(lambda: timedelta(seconds=SPACING)), clock, 20, each=SPACING) == [0.0] * 20


def test_a_silence_gives_back_what_follows_at_once_and_no_more(clock: Clock) -> None:
    of = Pace(lambda: timedelta(seconds=SPACING))
    assert counted(of, clock, 6, each=0) == [0.0] * 4 + [SPACING] * 2
    clock.seconds += 2 * SPACING
    assert counted(of, clock, 4, each=0) == [0.0] * 2 + [SPACING] * 2
    clock.seconds += 100
    assert counted(of, clock, 6, each=0) == [0.0] * 4 + [SPACING] * 2


@pytest.mark.parametrize("least", [SPACING / 2, 2 * SPACING])
def test_a_least_time_holds_whatever_was_saved(clock: Clock, least: float) -> None:
    of = Pace(lambda: timedelta(seconds=SPACING))
    of.count(least=timedelta(seconds=least))
    assert counted(of, clock, 3, each=0) == [max(SPACING, least), SPACING, SPACING]
