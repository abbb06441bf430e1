"""The doorbell comes back after an error that nobody foresaw, and is open only for all that is wanted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from agent_service.domain.context import ContextStatus
from agent_service.store import Store, doorbell
from agent_service.store.doorbell import Topic
from agent_service.store.driver import change_stream
from tests.support.contexts import a_context
from tests.support.waiting import until

LIMIT = timedelta(seconds=20)
NOW_OR_NEVER = timedelta(0)


async def test_the_doorbell_comes_back_after_an_unforeseen_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce = store.doorbell._announce
    odd: list[Any] = []

    def announce_or_break(change: Any) -> None:
        if not odd:
            odd.append(change)
            raise KeyError("documentKey")
        announce(change)

    monkeypatch.setattr(store.doorbell, "_announce", announce_or_break)
    with (
        store.doorbell.listen(Topic.WORK, "generation") as work,
        store.doorbell.listen(Topic.WORK, "analysis") as other,
    ):
        # The opening of a stream rings for everybody, once.
        assert await work.wait(LIMIT)
        assert await other.wait(LIMIT)
        await store.contexts.insert([a_context()])
        assert await other.wait(LIMIT)
        assert len(odd) == 1
        await work.wait(NOW_OR_NEVER)
        await store.contexts.insert([a_context()])
        assert await work.wait(LIMIT)
        assert not await other.wait(NOW_OR_NEVER)
    assert store.doorbell.available


async def test_a_stream_that_is_replaced_while_it_opens_does_not_count_as_open(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_may_open, second_may_open, first_opened = asyncio.Event(), asyncio.Event(), asyncio.Event()
    openings: list[Any] = []

    @asynccontextmanager
    async def open_stream(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        openings.append(arguments)
        await (first_may_open if len(openings) == 1 else second_may_open).wait()
        async with change_stream(*arguments, **options) as stream:
            first_opened.set()
            yield stream

    monkeypatch.setattr(doorbell, "change_stream", open_stream)
    with store.doorbell.listen(Topic.WORK) as work:
        await until(lambda: openings)
        # What the first one opens with does not cover the schedule.
        with store.doorbell.listen(Topic.SCHEDULE) as schedule:
            first_may_open.set()
            await first_opened.wait()
            assert not await store.doorbell.opened(timedelta(milliseconds=200))
            second_may_open.set()
            assert await store.doorbell.opened(LIMIT)
            assert await work.wait(LIMIT)
            assert await schedule.wait(LIMIT)
            await store.contexts.insert([a_context(status=ContextStatus.SCHEDULED, released_at=None)])
            assert await schedule.wait(LIMIT)
            assert not await work.wait(NOW_OR_NEVER)
