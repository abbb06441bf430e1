import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from loguru import logger

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.domain.errors import RequestNotFound, StoreUnavailable
from tests.support.api import SUBMISSION, assert_problem, calling, make_app, memory_store

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


async def test_a_call_that_goes_on_by_itself_is_waited_for_without_another_task() -> None:
    go_on = asyncio.Event()
    calls = BoundedCalls(SOON)

    async def unbroken() -> int:
        await asyncio.shield(going)
        return 1

    going = asyncio.create_task(go_on.wait())
    with pytest.raises(StoreUnavailable, match="late"):
        await calls.wait_for(unbroken(), late=LATE)
    assert not going.done()
    go_on.set()
    assert await calls.wait_for(unbroken(), late=LATE) == 1


async def test_a_call_that_raises_that_its_own_time_is_over_is_not_late() -> None:
    async def fails() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await BoundedCalls().wait_for(fails(), late=LATE)


async def test_a_submission_is_stored_although_its_caller_was_answered_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = memory_store()
    go_on = asyncio.Event()
    insert = store.requests.insert_many

    async def slow(*arguments: Any, **options: Any) -> Any:
        await go_on.wait()
        return await insert(*arguments, **options)

    monkeypatch.setattr(store.requests, "insert_many", slow)
    async with calling(make_app(store, answer_within=SOON)) as api:
        assert_problem(await api.post("/v1/requests", json=SUBMISSION), 503, "outcome_unknown")
        batch = {"requests": [SUBMISSION] * 2}
        assert_problem(await api.post("/v1/requests:batch", json=batch), 503, "outcome_unknown")
    go_on.set()
    await store.calls.finish()
    async with calling(make_app(store)) as api:
        assert len((await api.get("/v1/requests")).json()["requests"]) == 3
