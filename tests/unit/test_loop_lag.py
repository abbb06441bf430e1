"""LoopLag: what it measures, what it remembers, and how often it speaks of it."""

import asyncio
import threading
from datetime import timedelta

from agent_service.telemetry.loop_lag import LoopLag
from tests.support.waiting import until

BLOCKED = 1.5


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.moment = 1_000.0

    def __call__(self) -> float:
        return self.moment


async def test_a_loop_that_is_held_up_shows_it_and_says_so_once(warnings: list[str]) -> None:
    lag, stopping = LoopLag(), asyncio.Event()
    measuring = asyncio.create_task(lag.run(stopping))
    # Let it begin to wait.
    await asyncio.sleep(0)
    for _ in range(2):
        # This is what must not be done on an event loop; nobody sets that event.
        threading.Event().wait(BLOCKED)
        await until(lambda: lag.worst() >= timedelta(seconds=BLOCKED - 0.3))
    stopping.set()
    await measuring
    assert lag.worst() < timedelta(seconds=30)
    [line] = warnings
    assert "the event loop stood still for" in line


async def test_measuring_ends_at_once_when_asked() -> None:
    lag, stopping = LoopLag(), asyncio.Event()
    stopping.set()
    await lag.run(stopping)
    assert lag.worst() == timedelta(0)


def test_the_worst_of_the_last_minute_is_remembered_and_no_longer() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    for seconds in (0.1, 0.9, 0.2, -0.1):
        lag.observe(seconds)
        clock.moment += 20
    # 0.9 was 60 s ago, give or take nothing.
    assert lag.worst() == timedelta(seconds=0.9)
    clock.moment += 1
    assert lag.worst() == timedelta(seconds=0.2)
    clock.moment += 60
    assert lag.worst() == timedelta(0)


def test_only_a_long_lag_is_told_and_not_more_often_than_once_a_minute(warnings: list[str]) -> None:
    clock = Clock()
    lag = LoopLag(clock)
    for seconds in (1.0, 1.1, 5.0):
        lag.observe(seconds)
        clock.moment += 29
    assert len(warnings) == 1
    clock.moment += 30
    lag.observe(2.0)
    assert ["stood still for 1.1 s" in warnings[0], "stood still for 2.0 s" in warnings[1]] == [True, True]
