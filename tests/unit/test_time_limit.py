"""A time limit is that of `asyncio.timeout`: who takes longer is told so, and nobody else is taken for it."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from agent_service.time_limit import TimeLimit

SHORT = timedelta(milliseconds=20)
LONG = timedelta(minutes=1)


async def forever() -> None:
    await asyncio.Event().wait()


async def ignoring() -> None:
    """Take no notice of one cancellation."""
    with contextlib.suppress(asyncio.CancelledError):
        await forever()


def is_as_if_never_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


async def test_what_ends_in_time_is_left_alone() -> None:
    limit = TimeLimit(LONG)
    with limit:
        await asyncio.sleep(0)
    assert not limit.expired
    assert is_as_if_never_cancelled()


async def test_what_takes_too_long_is_cancelled_and_whoever_waits_goes_on() -> None:
    limit = TimeLimit(SHORT)
    with pytest.raises(TimeoutError), limit:
        await forever()
    assert limit.expired
    assert is_as_if_never_cancelled()
    await asyncio.sleep(0)


async def test_no_timer_is_left_of_what_ended_in_time() -> None:
    with TimeLimit(timedelta(0)):
        pass
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, later.set)
    await later.wait()
    assert is_as_if_never_cancelled()


async def test_what_takes_too_long_and_ends_all_the_same_leaves_no_cancellation_behind() -> None:
    limit = TimeLimit(SHORT)
    with limit:
        await ignoring()
    assert limit.expired
    assert is_as_if_never_cancelled()

    async def failing() -> None:
        await ignoring()
        raise KeyError("odd")

    with pytest.raises(KeyError), TimeLimit(SHORT):
        await failing()
    assert is_as_if_never_cancelled()


async def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError), TimeLimit(LONG):
        raise KeyError("odd")


@pytest.mark.parametrize("limit", [LONG, timedelta(0)])
async def test_whoever_is_cancelled_from_outside_is_cancelled_whatever_the_limit(limit: timedelta) -> None:
    async def limited() -> None:
        with TimeLimit(limit):
            await forever()

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    # With no time at all, in the same turn of the event loop as the limit.
    asyncio.get_running_loop().call_later(0, task.cancel)
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()


async def test_a_limit_within_a_limit_ends_no_more_than_its_own() -> None:
    outer, inner = TimeLimit(LONG), TimeLimit(SHORT)
    with outer, pytest.raises(TimeoutError), inner:
        await forever()
    assert (outer.expired, inner.expired) == (False, True)
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), TimeLimit(SHORT):
            await forever()
    assert is_as_if_never_cancelled()
