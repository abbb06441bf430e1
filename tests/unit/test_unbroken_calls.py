"""Calls that go on when whoever waits for them is cancelled."""

import asyncio

import pymongo
import pytest
from pymongo import _csot

from agent_service.concurrency import Supervisor
from agent_service.domain.errors import StoreUnavailable
from agent_service.store.unbroken_calls import UnbrokenCalls


async def test_the_result_and_the_error_of_a_call_are_those_of_its_caller() -> None:
    async def answer() -> int:
        return 1

    async def fail() -> int:
        raise StoreUnavailable("away")

    calls = UnbrokenCalls(Supervisor())
    assert await calls.run(answer()) == 1
    with pytest.raises(StoreUnavailable):
        await calls.run(fail())


@pytest.mark.parametrize("error", [None, StoreUnavailable("away"), KeyError("odd")], ids=str)
async def test_a_call_whose_caller_is_cancelled_goes_on_to_its_end(error: Exception | None) -> None:
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call() -> None:
        began.set()
        await may_end.wait()
        ended.set()
        if error is not None:
            raise error

    calls = UnbrokenCalls(Supervisor())
    caller = asyncio.create_task(calls.run(call()))
    await began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    finishing = asyncio.create_task(calls.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    may_end.set()
    await finishing
    assert ended.is_set()


@pytest.mark.parametrize("error", [None, StoreUnavailable("away"), KeyError("odd")], ids=str)
async def test_a_call_of_nobodys_is_waited_for_at_the_end_and_has_no_limit_of_others(
    error: Exception | None,
) -> None:
    limits: list[float | None] = []

    async def call() -> None:
        limits.append(_csot.remaining())
        if error is not None:
            raise error

    calls = UnbrokenCalls(Supervisor())
    with pymongo.timeout(10):
        calls.start(call())
    await calls.finish()
    assert limits == [None]
