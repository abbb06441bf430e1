import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from loguru import logger

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.domain.errors import RequestNotFound, StoreUnavailable

SOON = timedelta(milliseconds=20)
LATE = StoreUnavailable("late")


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


async def test_a_call_in_time_gives_what_it_returns_or_raises() -> None:
    async def good() -> int:
        return 1

    async def bad() -> int:
        raise RequestNotFound("x")

    calls = BoundedCalls()
    assert await calls.run(good(), late=LATE) == 1
    with pytest.raises(RequestNotFound):
        await calls.run(bad(), late=LATE)


async def test_a_late_call_goes_on_and_is_waited_for_at_the_end() -> None:
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        await go_on.wait()
        ended.set()

    calls = BoundedCalls(SOON)
    with pytest.raises(StoreUnavailable, match="late"):
        await calls.run(slow(), late=LATE)
    assert not ended.is_set()
    go_on.set()
    await calls.finish(timedelta(seconds=10))
    assert ended.is_set()
    await calls.finish(timedelta(0))


async def test_a_caller_that_is_cancelled_does_not_cancel_its_call() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    calls = BoundedCalls()
    caller = asyncio.create_task(calls.run(slow(), late=LATE))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await calls.finish(timedelta(seconds=10))
    assert ended.is_set()


async def test_how_a_late_call_failed_is_logged(warnings: list[str]) -> None:
    go_on = asyncio.Event()

    async def fails() -> None:
        await go_on.wait()
        raise StoreUnavailable("no primary")

    calls = BoundedCalls(SOON)
    with pytest.raises(StoreUnavailable, match="late"):
        await calls.run(fails(), late=LATE)
    go_on.set()
    await calls.finish(timedelta(seconds=10))
    assert [line for line in warnings if "StoreUnavailable: no primary" in line]
