"""The demo ends at once when a part of it has ended by itself."""

import asyncio

import pytest

from agent_service.demo import _unless_broken
from agent_service.domain.errors import LocalPartUnavailable
from agent_service.domain.json_value import JsonObject


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_part_that_ends_by_itself_ends_the_wait_with_its_reason() -> None:
    stopped = asyncio.Event()

    async def follow() -> JsonObject:
        try:
            await never()
        finally:
            stopped.set()
        return {}

    async def broken() -> None:
        # Not before the other one is waiting.
        await asyncio.sleep(0)
        raise LocalPartUnavailable("the embedded MongoDB has ended by itself")

    async with asyncio.timeout(5):
        with pytest.raises(LocalPartUnavailable, match="ended by itself"):
            await _unless_broken(follow(), broken())
    assert stopped.is_set()


async def test_otherwise_the_request_is_what_counts() -> None:
    async def follow() -> JsonObject:
        return {"status": "completed"}

    assert await _unless_broken(follow(), never()) == {"status": "completed"}
