"""One reading for all who ask within a short while."""

import asyncio

import pytest

from agent_service.insights.shared_reading import SharedReading
from tests.support.waiting import until


class Source:
    """Something to read that takes as long as it likes, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.readings = 0
        self.takes = 0.0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.shared = SharedReading(self.read, monotonic=lambda: self.now)

    async def read(self) -> int:
        self.readings += 1
        number = self.readings
        await self.go_on.wait()
        self.now += self.takes
        if self.error is not None:
            raise self.error
        return number


async def test_who_asks_within_a_second_gets_the_same_and_later_a_fresh_one() -> None:
    source = Source()
    assert await source.shared.get() == 1
    source.now += 0.9
    assert await source.shared.get() == 1
    source.now += 0.2
    assert await source.shared.get() == 2


async def test_all_who_ask_at_the_same_time_share_one_reading() -> None:
    source = Source()
    source.go_on.clear()
    asking = [asyncio.create_task(source.shared.get()) for _ in range(20)]
    await until(lambda: source.readings > 0)
    # One that stops waiting takes it from nobody.
    asking.pop(0).cancel()
    source.now += 1_000
    asking.append(asyncio.create_task(source.shared.get()))
    await asyncio.sleep(0)
    source.go_on.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert source.readings == 1


async def test_what_took_long_to_read_serves_ten_times_as_long() -> None:
    source = Source()
    source.takes = 3.0
    assert await source.shared.get() == 1
    source.now += 29
    assert await source.shared.get() == 1
    source.now += 2
    assert await source.shared.get() == 2


async def test_an_error_is_for_those_who_wait_and_the_next_one_reads_again() -> None:
    source = Source()
    source.error = ValueError("no")
    for reading in (1, 2):
        with pytest.raises(ValueError, match="no"):
            await source.shared.get()
        assert source.readings == reading
    source.error = None
    assert await source.shared.get() == 3
