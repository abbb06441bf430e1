"""A request that many read is read once for all of them."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import RequestNotFound
from agent_service.domain.events import Chunk, Event, EventType
from agent_service.request_service import RequestService
from agent_service.request_snapshot import SnapshotReader
from agent_service.request_tail import RequestTails
from agent_service.store import Store
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.fail_points import fragile_store
from tests.support.hand_worker import claim, end, success
from tests.support.open_subscriptions import subscriptions_of
from tests.support.waiting import until

ONE = {"service": "generation", "input": "hello"}
READERS = 20


async def read_until_end(events: AsyncGenerator[Event, None]) -> list[str]:
    async with asyncio.timeout(60):
        return [event.delta or event.type.value async for event in events]


async def store_chunks(contexts: ContextManager, context: Context, *deltas: str, first: int = 1) -> None:
    for seq, delta in enumerate(deltas, start=first):
        await contexts.store_chunk(
            Chunk(context_id=context.id, attempt=context.attempt, seq=seq, delta=delta, at=contexts.now())
        )


async def test_many_readers_of_a_request_cost_no_more_queries_than_one(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    requests, contexts = RequestService(recorded_store), ContextManager(recorded_store)
    request_id = (await requests.submit(ONE)).request.id
    (draft,) = await claim(contexts, "generation")
    readers = [requests.events(request_id) for _ in range(READERS)]
    beginnings = [[await anext(reader) for _ in range(3)] for reader in readers]
    assert {events[-1].type for events in beginnings} == {EventType.STEP_RUNNING}
    rests = [asyncio.create_task(read_until_end(reader)) for reader in readers]
    recorder.sent.clear()
    for seq in range(1, 11):
        await store_chunks(contexts, draft, f"{seq} ", first=seq)
    await end(contexts, draft, success(contexts, draft, chunks=10))
    everything = [f"{seq} " for seq in range(1, 11)] + ["step.completed", "request.completed"]
    assert [await rest for rest in rests] == [everything] * READERS
    # For each chunk one look at most, and a few for the end and for the polls between.
    assert len(recorder.named("find", "getMore")) < 10 + 30
    assert subscriptions_of(recorded_store) == set()


async def test_who_comes_late_reads_what_it_missed_by_itself_and_goes_on_with_the_others(
    store: Store, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(ONE)).request.id
    (draft,) = await claim(contexts, "generation")
    early = asyncio.create_task(read_until_end(requests.events(request_id)))
    deltas = [f"{number} " for number in range(230)]
    await store_chunks(contexts, draft, *deltas)
    late = asyncio.create_task(read_until_end(requests.events(request_id)))
    await store_chunks(contexts, draft, "almost ", "done", first=231)
    await end(contexts, draft, success(contexts, draft, chunks=232))
    whole = await early
    assert await late == whole
    assert whole[3:-2] == [*deltas, "almost ", "done"]


async def test_a_tail_ends_with_its_last_reader_and_stops_looking_once_the_request_has_ended(
    store: Store, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(ONE)).request.id
    tails = RequestTails(store)
    tail = tails.join(request_id)
    assert tails.join(request_id) is tail
    await tails.leave(tail)
    snapshot = await tail.newer_than(0)
    (draft,) = await claim(contexts, "generation")
    await end(contexts, draft, success(contexts, draft))
    async with asyncio.timeout(60):
        while not snapshot.is_last:
            snapshot = await tail.newer_than(snapshot.number)
    # Nothing more can happen to it, so nobody listens any more.
    await until(lambda: not subscriptions_of(store))
    assert await tail.newer_than(0) is snapshot
    await tails.leave(tail)
    another = tails.join(request_id)
    assert another is not tail
    await tails.leave(another)


async def test_a_request_that_is_not_there_or_is_removed_ends_its_readers(
    store: Store, requests: RequestService, raw: AsyncDatabase[Document]
) -> None:
    tails = RequestTails(store)
    tail = tails.join("none")
    with pytest.raises(RequestNotFound):
        await tail.newer_than(0)
    # Whoever comes later has another try.
    another = tails.join("none")
    assert another is not tail
    await tails.leave(tail)
    assert tails.join("none") is another
    for _ in range(2):
        await tails.leave(another)
    request_id = (await requests.submit(ONE)).request.id
    reader = requests.events(request_id)
    assert (await anext(reader)).type is EventType.REQUEST_ACCEPTED
    await raw["requests"].delete_one({"_id": request_id})
    with pytest.raises(RequestNotFound):
        await read_until_end(reader)


async def test_a_reader_goes_on_when_mongodb_answers_again(
    mongodb_uri: str, database_name: str, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(ONE)).request.id
    (draft,) = await claim(contexts, "generation")
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        reader = RequestService(fragile).events(request_id)
        assert [(await anext(reader)).type.value for _ in range(3)][-1] == "step.running"
        await point.fail("find", times=4, errorCode=50)
        await store_chunks(contexts, draft, "a", "b")
        await end(contexts, draft, success(contexts, draft, chunks=2))
        assert await read_until_end(reader) == ["a", "b", "step.completed", "request.completed"]


async def test_a_fault_of_ours_ends_the_readers_and_is_logged(
    store: Store, requests: RequestService, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = (await requests.submit(ONE)).request.id

    async def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(SnapshotReader, "read_next", broken)
    with pytest.raises(RuntimeError, match="bug"):
        await read_until_end(requests.events(request_id))
    assert any("unforeseen" in line for line in warnings)


async def test_a_reader_that_is_cancelled_leaves_the_others_alone(
    store: Store, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(ONE)).request.id
    (draft,) = await claim(contexts, "generation")
    first, second = (asyncio.create_task(read_until_end(requests.events(request_id))) for _ in range(2))
    await until(lambda: len(subscriptions_of(store)) == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await end(contexts, draft, success(contexts, draft))
    assert (await second)[-1] == "request.completed"
