"""What is said in the background of many at once."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agent_service.concurrency import Supervisor
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import marks
from agent_service.store.marks import Marks


class Recorded(Marks[str]):
    """Keeps what it is to mark, once it may."""

    def __init__(self) -> None:
        super().__init__(Supervisor(), name="marking")
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.begun = asyncio.Event()
        self.marked: list[list[str]] = []

    async def _mark(self, items: Sequence[str]) -> None:
        self.begun.set()
        await self.may_write.wait()
        self.marked.append(list(items))
        if "refused" in items:
            raise StoreUnavailable("not now")


async def test_what_is_added_within_a_moment_is_marked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_WITHIN", timedelta(milliseconds=20))
    recorded = Recorded()
    recorded.add(["a", "b"])
    recorded.add(["c"])
    await asyncio.wait(set(recorded._writing))
    assert recorded.marked == [["a", "b", "c"]]


async def test_a_flush_waits_for_what_was_added_before_it_and_not_for_what_comes_after() -> None:
    recorded = Recorded()
    recorded.may_write.clear()
    recorded.add(["before"])
    flushing = asyncio.create_task(recorded.flush())
    # As soon as it is being written, others are gathered.
    await recorded.begun.wait()
    recorded.add(["after"])
    assert not flushing.done()
    recorded.may_write.set()
    async with asyncio.timeout(5):
        await flushing
    assert recorded.marked == [["before"]]
    await recorded.flush()
    assert recorded.marked == [["before"], ["after"]]


async def test_what_cannot_be_marked_now_is_left_to_others() -> None:
    recorded = Recorded()
    recorded.add(["refused"])
    await recorded.flush()
    recorded.add(["next"])
    await recorded.flush()
    await recorded.flush()
    assert recorded.marked == [["refused"], ["next"]]
