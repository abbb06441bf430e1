"""The end of a request's only step ends the request at once, and is said to be settled soon after."""

import asyncio
from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.events import Chunk
from agent_service.domain.request import RequestStatus
from agent_service.rescuer import GRACE
from agent_service.settler import Settler, WrittenEnd
from agent_service.store import Store, marks
from agent_service.store.settlement import OUTLIVES, SettlementCollection
from tests.support.contexts import NOW, a_request, ended_context
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.rescuers import a_rescuer
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    HandlerWorker,
    Raw,
    echo,
    ended,
    running,
    step,
    submit,
)

RETENTION = timedelta(days=1)


async def a_written_end(store: Store, request_id: str, *, streamed: bool = False) -> WrittenEnd:
    """The end of the only step of a request, which has not ended yet."""
    context = ended_context(request_id=request_id, sole=True)
    assert await store.requests.insert(a_request(id=request_id, planned=True))
    await store.contexts.insert([context])
    return WrittenEnd(
        context_id=context.id,
        request_id=request_id,
        status=ContextStatus.COMPLETED,
        sole=True,
        streamed=streamed,
    )


async def the_context(store: Store, end: WrittenEnd) -> Context:
    (context,) = await store.contexts.of_request(end.request_id)
    return context


async def test_ends_are_said_to_be_settled_of_many_at_once_and_requests_end_at_once(
    mongodb_uri: str, store: Store, raw: Raw, recorder: CommandRecorder
) -> None:
    ends = [await a_written_end(store, f"r{number:02}") for number in range(30)]
    client = AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder])
    async with client, Store(client[raw.name]) as settling:
        settler = Settler(settling, retention=RETENTION)
        for start in range(0, len(ends), 3):
            await settler.settle_ends(ends[start : start + 3])
        assert await raw.requests.count_documents({"status": "completed"}) == len(ends)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.wait(set(settling.settled_marks._writing))
    updates = [command for command in recorder.named("update") if command["update"] == "contexts"]
    assert 1 <= len(updates) <= 2
    request = await raw.requests.find_one({})
    assert request is not None
    async for document in raw.contexts.find({}):
        assert document["settled"]
        assert document["expires_at"] >= request["expires_at"] + OUTLIVES


async def test_what_is_kept_for_different_times_expires_at_different_times(store: Store) -> None:
    short, long = await a_written_end(store, "short"), await a_written_end(store, "long")
    for end, days in ((short, 1), (long, 30)):
        await Settler(store, retention=timedelta(days=days)).settle_ends([end])
    await store.settled_marks.flush()
    one, other = await the_context(store, short), await the_context(store, long)
    assert one.settled
    assert other.settled
    assert one.expires_at is not None
    assert other.expires_at is not None
    assert abs(other.expires_at - one.expires_at - timedelta(days=29)) < timedelta(minutes=1)


async def test_chunks_expire_before_their_context_is_said_to_be_settled(store: Store, raw: Raw) -> None:
    end = await a_written_end(store, "r", streamed=True)
    await store.chunks.append(Chunk(context_id=end.context_id, attempt=1, seq=1, delta="text", at=NOW))
    await ContextManager(store, retention=RETENTION).settle_ends([end])
    await store.settled_marks.flush()
    assert (await the_context(store, end)).settled
    assert await raw.events.count_documents({"expires_at": None}) == 0


async def test_a_mark_that_got_lost_is_the_rescuers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_arguments: object, **_options: object) -> None:
        raise StoreUnavailable("gone")

    end = await a_written_end(store, "r")
    with monkeypatch.context() as patch:
        patch.setattr(SettlementCollection, "settle_sole", lost)
        await ContextManager(store, retention=RETENTION).settle_ends([end])
        await store.settled_marks.flush()
    context = await the_context(store, end)
    assert (context.settled, context.expires_at) == (False, None)
    assert await store.requests.status("r") is RequestStatus.COMPLETED
    await a_rescuer(store).sweep()
    context = await the_context(store, end)
    assert context.settled
    assert context.expires_at is not None


def test_the_rescuer_leaves_it_for_far_longer_than_a_mark_takes() -> None:
    assert 5 * marks._WITHIN < GRACE


async def test_a_worker_that_has_stopped_leaves_nothing_to_be_settled(store: Store, raw: Raw) -> None:
    async with running(HandlerWorker(store, echo)):
        chain = await submit(store, step("one"), step("two", after=("one",)))
        for request_id in (chain, await submit(store), await submit(store)):
            await ended(store, request_id)
    assert await raw.contexts.count_documents({"settled": True}) == 4
