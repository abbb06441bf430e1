"""Time limits that many share are those of `asyncio.timeout`, with one timer."""

import asyncio
import time
from datetime import timedelta

import pytest

from agent_service.concurrency import TimeLimit, TimeLimits

SHORT = timedelta(milliseconds=50)
LONG = timedelta(minutes=1)


async def limited(limits: TimeLimits, waiting: asyncio.Event) -> str:
    limit = TimeLimit(limits)
    try:
        with limit:
            await waiting.wait()
    except TimeoutError:
        assert limit.expired
        return "expired"
    assert not limit.expired
    return "done"


async def test_what_takes_longer_raises_and_what_does_not_goes_on() -> None:
    limits, done, never = TimeLimits(SHORT), asyncio.Event(), asyncio.Event()
    done.set()
    assert await limited(limits, done) == "done"
    assert await limited(limits, never) == "expired"
    assert await limited(limits, done) == "done"


async def test_each_has_its_own_time_from_its_own_beginning() -> None:
    limits, ends = TimeLimits(4 * SHORT), list[float]()

    async def one(number: int) -> None:
        for _ in range(number):
            assert await limited(TimeLimits(SHORT), asyncio.Event()) == "expired"
        began = time.monotonic()
        assert await limited(limits, asyncio.Event()) == "expired"
        ends.append(time.monotonic() - began)

    await asyncio.gather(*(one(number) for number in range(4)))
    # The clock of the loop may be a little before the time of a timer.
    assert min(ends) >= 4 * SHORT.total_seconds() - 0.01


async def test_many_have_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def counted(when: float, *arguments: object, **options: object) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *arguments, **options)  # type: ignore[arg-type]  # whatever it is given

    monkeypatch.setattr(loop, "call_at", counted)
    limits, done = TimeLimits(LONG), asyncio.Event()
    waiting = [asyncio.create_task(limited(limits, done)) for _ in range(100)]
    await asyncio.sleep(0)
    done.set()
    assert set(await asyncio.gather(*waiting)) == {"done"}
    assert len(timers) == 1


async def test_who_is_cancelled_by_somebody_else_is_cancelled() -> None:
    limits = TimeLimits(LONG)
    task = asyncio.create_task(limited(limits, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_where_the_time_is_over_and_somebody_cancels_too_that_counts() -> None:
    limits, inside = TimeLimits(LONG), asyncio.Event()

    async def work() -> None:
        limit = TimeLimit(limits)
        with limit:
            inside.set()
            limit.expire()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    limits = TimeLimits(LONG)
    with pytest.raises(KeyError), TimeLimit(limits):
        raise KeyError("odd")


async def test_limits_in_each_other_end_as_the_shorter_one() -> None:
    outer, inner = TimeLimit(TimeLimits(LONG)), TimeLimit(TimeLimits(SHORT))
    with pytest.raises(TimeoutError), outer, inner:
        await asyncio.Event().wait()
    assert (outer.expired, inner.expired) == (False, True)
