"""Taking items in batches: at once, together, and never without an end."""

import asyncio
from datetime import timedelta

import pytest

from agent_service.workers.batches import Batches

HOUR = timedelta(hours=1)


async def test_a_lone_item_is_handed_over_at_once() -> None:
    batches: Batches[int] = Batches(most=10, linger=HOUR)
    async with asyncio.timeout(10):
        for number in range(3):
            batches.put(number)
            assert await batches.next() == [number]


async def test_one_that_waits_gets_what_comes() -> None:
    batches: Batches[int] = Batches(most=10, linger=HOUR)
    waiting = asyncio.create_task(batches.next())
    await asyncio.sleep(0)
    batches.put(1)
    async with asyncio.timeout(10):
        assert await waiting == [1]


async def test_under_load_more_is_waited_for_until_the_batch_is_full() -> None:
    batches: Batches[int] = Batches(most=4, linger=HOUR)
    batches.put(1)
    batches.put(2)
    assert await batches.next() == [1, 2]
    batches.put(3)
    waiting = asyncio.create_task(batches.next())
    for number in (4, 5):
        await asyncio.sleep(0)
        assert not waiting.done()
        batches.put(number)
    batches.put(6)
    batches.put(7)
    async with asyncio.timeout(10):
        assert await waiting == [3, 4, 5, 6]
        assert len(batches) == 1


async def test_under_load_nothing_is_waited_for_longer_than_the_linger() -> None:
    batches: Batches[int] = Batches(most=100, linger=timedelta(milliseconds=20))
    for number in (1, 2):
        batches.put(number)
    assert await batches.next() == [1, 2]
    batches.put(3)
    async with asyncio.timeout(10):
        assert await batches.next() == [3]


async def test_a_load_of_long_ago_is_none() -> None:
    batches: Batches[int] = Batches(most=10, linger=timedelta(milliseconds=1))
    batches.put(1)
    batches.put(2)
    assert await batches.next() == [1, 2]
    assert batches._under_load()
    batches._taken_at -= 1
    assert not batches._under_load()


@pytest.mark.parametrize("load", [False, True])
async def test_what_is_left_at_the_close_is_taken_without_waiting_and_then_there_is_nothing(
    load: bool,
) -> None:
    batches: Batches[int] = Batches(most=2, linger=HOUR)
    if load:
        batches.put(0)
        batches.put(0)
        await batches.next()
    for number in (1, 2, 3):
        batches.put(number)
    batches.close()
    batches.put(4)
    async with asyncio.timeout(10):
        assert [await batches.next() for _ in range(3)] == [[1, 2], [3, 4], []]
