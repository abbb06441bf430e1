"""However an attempt ends, its chunk writer ends with it and stores nothing afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import BaseServiceUnavailable, LeaseLost
from agent_service.domain.request import RequestStatus
from agent_service.store import Store
from agent_service.workers.chunk_writer import ChunkWriter
from agent_service.workers.held_lease import HeldLease
from tests.support.fail_points import FailPoint, fragile_store
from tests.support.waiting import until
from tests.support.worker_tools import (
    PASSING_ERROR,
    CommandLog,
    HandlerWorker,
    Raw,
    by_step,
    claim,
    ended,
    running,
    step,
    submit,
)

LEASE_SECONDS = 60.0


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[ChunkWriter]:
    """The writer of the first attempt of a context, whose lease goes on for long."""
    async for made in writers_of(store):
        yield made


async def writers_of(store: Store) -> AsyncIterator[ChunkWriter]:
    (context,) = await claim(store, 1, seconds=LEASE_SECONDS)
    lease = HeldLease(context.id, "token", ends=time.monotonic() + LEASE_SECONDS, on_lost=lambda: None)
    yield ChunkWriter(ContextManager(store), context, lease)
    lease.let_go()


@asynccontextmanager
async def refusing(uri: str, name: str) -> AsyncIterator[tuple[Store, FailPoint, Callable[[], bool]]]:
    """A store, what makes it fail, and whether it has tried to store a chunk."""
    log = CommandLog()
    async with fragile_store(uri, name, event_listeners=[log]) as (store, point):
        await store.prepare()
        yield store, point, lambda: any(sent[:2] == ("insert", "events") for sent in log.sent)


async def test_abandoning_does_not_wait_for_a_mongodb_that_refuses_every_write(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with refusing(mongodb_uri, database_name) as (store, point, tried):
        async for writer in writers_of(store):
            await point.fail("insert", errorCode=PASSING_ERROR)
            await writer.add("refused")
            await until(tried)
            async with asyncio.timeout(5):
                assert await writer.abandon() == 0
        assert await raw.events.count_documents({}) == 0


async def test_an_attempt_that_fails_ends_although_its_text_cannot_be_stored(
    mongodb_uri: str, database_name: str
) -> None:
    async with refusing(mongodb_uri, database_name) as (store, point, tried):

        async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
            if call.attempt == 1:
                await on_delta("refused")
                await until(tried)
                raise BaseServiceUnavailable("server_error", "busy")
            return BaseServiceAnswer(output="done")

        request_id = await submit(store)
        await point.fail("insert", errorCode=PASSING_ERROR)
        async with running(HandlerWorker(store, generate, lease_seconds=LEASE_SECONDS)), asyncio.timeout(20):
            view = await ended(store, request_id)
    (context,) = view.contexts
    assert (context.status, context.attempt) == (ContextStatus.COMPLETED, 2)
    assert [record.chunks for record in context.history] == [0, 0]


@pytest.mark.parametrize("end", ["finish", "abandon"])
async def test_a_delta_after_the_end_is_refused_and_nothing_of_it_is_stored(
    writer: ChunkWriter, raw: Raw, end: str
) -> None:
    await writer.add("in time")
    await until(lambda: writer.stored)
    assert await getattr(writer, end)() == 1
    for late in ("too late", ""):
        with pytest.raises(LeaseLost, match="has ended"):
            await writer.add(late)
    assert await writer.abandon() == 1
    assert [document["delta"] async for document in raw.events.find()] == ["in time"]


async def test_what_a_handler_streams_after_its_answer_is_refused(store: Store, raw: Raw) -> None:
    late: list[asyncio.Task[None]] = []
    answered = asyncio.Event()

    async def stream_later(on_delta: OnDelta) -> None:
        await answered.wait()
        await on_delta("too late")

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.step == "draft":
            await on_delta("in time")
            late.append(asyncio.create_task(stream_later(on_delta)))
        return BaseServiceAnswer(output="done")

    async with running(HandlerWorker(store, generate)):
        view = await ended(store, await submit(store, step("draft"), step("after", after=("draft",))))
        answered.set()
        with pytest.raises(LeaseLost):
            await late[0]
    assert view.status is RequestStatus.COMPLETED
    assert by_step(view)["draft"].history[-1].chunks == 1
    assert [document["delta"] async for document in raw.events.find()] == ["in time"]
