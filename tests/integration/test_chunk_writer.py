"""Streamed text in pieces: in order, not too many, and none without a lease."""

import asyncio
import time
from datetime import timedelta

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import LeaseLost, UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.events import Chunk
from agent_service.store import Store
from agent_service.store.operations import WRITE_LIMIT
from agent_service.workers import chunk_writer
from agent_service.workers.chunk_writer import COALESCE_CHARACTERS, ChunkWriter
from agent_service.workers.held_lease import HeldLease
from tests.support.stored_chunks import all_chunks
from tests.support.worker_tools import DEADLINE_SECONDS, PASSING_ERROR, Raw, claim, streamed, trouble


class GatedStorage(ContextManager):
    """Stores a chunk when the gate is open, and notes how many are on their way at the same time."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.most = 0
        self._on_their_way = 0

    async def store_chunk(self, chunk: Chunk, *, within: timedelta = WRITE_LIMIT) -> None:
        self._on_their_way += 1
        self.most = max(self.most, self._on_their_way)
        self.entered.set()
        await self.gate.wait()
        await super().store_chunk(chunk, within=within)
        self._on_their_way -= 1


async def writer_of(
    store: Store, contexts: ContextManager | None = None, *, seconds: float = 60
) -> tuple[ChunkWriter, HeldLease, str]:
    """A writer for a claimed context, its lease, and the id of the context."""
    (context,) = await claim(store, 1, seconds=seconds)
    ends = time.monotonic() + seconds
    lease = HeldLease(context.id, "token", ends=ends, on_lost=lambda: None)
    return ChunkWriter(contexts or ContextManager(store), context, lease), lease, context.id


async def stored(store: Store, context_id: str) -> list[tuple[int, str]]:
    return [(chunk.seq, chunk.delta) for chunk in await all_chunks(store, context_id, 1)]


async def test_what_arrives_together_is_stored_as_one_piece(store: Store) -> None:
    writer, lease, context_id = await writer_of(store)
    for number in range(100):
        await writer.add(f"{number} ")
    assert await writer.finish() == 1
    assert await stored(store, context_id) == [(1, "".join(f"{number} " for number in range(100)))]
    lease.let_go()


async def test_pieces_are_numbered_in_the_order_in_which_they_came(store: Store) -> None:
    writer, lease, context_id = await writer_of(store)
    for number in range(1, 4):
        await writer.add(f"{number} ")
        await streamed(store, context_id, "".join(f"{known} " for known in range(1, number + 1)))
    assert await writer.finish() == 3
    assert await stored(store, context_id) == [(1, "1 "), (2, "2 "), (3, "3 ")]
    lease.let_go()


async def test_nothing_is_stored_of_nothing(store: Store) -> None:
    writer, lease, context_id = await writer_of(store)
    await writer.add("")
    assert await writer.finish() == 0
    assert await stored(store, context_id) == []
    lease.let_go()


async def test_a_large_piece_does_not_wait_for_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_writer, "COALESCE", timedelta(hours=1))
    writer, lease, context_id = await writer_of(store)
    await writer.add("x" * COALESCE_CHARACTERS)
    await streamed(store, context_id, "x" * COALESCE_CHARACTERS)
    await writer.add("the rest does, until no more can come")
    assert await writer.finish() == 2
    lease.let_go()


async def test_one_piece_is_on_its_way_at_a_time(store: Store) -> None:
    contexts = GatedStorage(store)
    contexts.gate.set()
    writer, lease, context_id = await writer_of(store, contexts)
    for _ in range(40):
        await writer.add("x" * COALESCE_CHARACTERS)
    count = await writer.finish()
    assert contexts.most == 1
    pieces = await stored(store, context_id)
    assert [seq for seq, _ in pieces] == list(range(1, count + 1))
    assert sum(len(delta) for _, delta in pieces) == 40 * COALESCE_CHARACTERS
    lease.let_go()


async def test_a_service_that_is_faster_than_mongodb_is_slowed_down(store: Store) -> None:
    contexts = GatedStorage(store)
    writer, lease, context_id = await writer_of(store, contexts)
    added = 0

    async def produce() -> None:
        nonlocal added
        for _ in range(200):
            await writer.add("x" * COALESCE_CHARACTERS)
            added += 1

    producing = asyncio.create_task(produce())
    await contexts.entered.wait()
    # It cannot be seen that nothing happens, so it gets some time to happen in.
    await asyncio.wait({producing}, timeout=0.1)
    assert 0 < added < 40
    contexts.gate.set()
    await producing
    await writer.finish()
    assert sum(len(delta) for _, delta in await stored(store, context_id)) == 200 * COALESCE_CHARACTERS
    lease.let_go()


class LosesAnswers(ContextManager):
    """The answer to the first write of each chunk gets lost, after it was applied."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._seen: set[int] = set()

    async def store_chunk(self, chunk: Chunk, *, within: timedelta = WRITE_LIMIT) -> None:
        await super().store_chunk(chunk, within=within)
        if chunk.seq not in self._seen:
            self._seen.add(chunk.seq)
            raise WriteOutcomeUnknown("the connection was closed")


async def test_a_piece_whose_answer_was_lost_is_stored_once(store: Store) -> None:
    writer, lease, context_id = await writer_of(store, LosesAnswers(store))
    await writer.add("once")
    assert await writer.finish() == 1
    assert await stored(store, context_id) == [(1, "once")]
    lease.let_go()


async def test_a_piece_is_stored_again_while_mongodb_does_not_answer(store: Store, raw: Raw) -> None:
    writer, lease, context_id = await writer_of(store)
    async with trouble(raw, ["insert"], mode={"times": 2}, errorCode=PASSING_ERROR):
        await writer.add("patience")
        assert await writer.finish() == 1
    assert await stored(store, context_id) == [(1, "patience")]
    lease.let_go()


async def test_no_piece_is_stored_once_the_lease_is_lost(store: Store) -> None:
    writer, lease, context_id = await writer_of(store)
    await writer.add("mine")
    await streamed(store, context_id, "mine")
    lease.lose()
    await writer.add("not mine")
    with pytest.raises(LeaseLost):
        await writer.finish()
    with pytest.raises(LeaseLost):
        await writer.add("nor this")
    assert await writer.abandon() == 1
    assert await stored(store, context_id) == [(1, "mine")]


async def test_a_lease_that_is_about_to_end_counts_as_ended(store: Store) -> None:
    writer, lease, context_id = await writer_of(store, seconds=0.4)
    await writer.add("too late")
    with pytest.raises(LeaseLost):
        await writer.finish()
    assert await stored(store, context_id) == []
    lease.let_go()


async def test_trying_again_ends_with_the_lease(store: Store, raw: Raw) -> None:
    writer, lease, context_id = await writer_of(store, seconds=1)
    async with trouble(raw, ["insert"], errorCode=PASSING_ERROR), asyncio.timeout(DEADLINE_SECONDS):
        await writer.add("in vain")
        with pytest.raises(LeaseLost):
            await writer.finish()
    assert await stored(store, context_id) == []
    lease.let_go()


async def test_a_writer_that_is_abandoned_ends_the_write_on_its_way_and_drops_the_rest(store: Store) -> None:
    contexts = GatedStorage(store)
    writer, lease, context_id = await writer_of(store, contexts)
    await writer.add("on its way")
    await contexts.entered.wait()
    await writer.add("dropped")
    abandoning = asyncio.create_task(writer.abandon())
    contexts.gate.set()
    assert await abandoning == 1
    assert await stored(store, context_id) == [(1, "on its way")]
    lease.let_go()


async def test_a_piece_that_cannot_be_stored_is_told_to_whoever_streams(store: Store) -> None:
    writer, lease, context_id = await writer_of(store)
    await writer.add("half a pair: \ud83d")
    with pytest.raises(UnstorableValue):
        await writer.finish()
    assert await writer.abandon() == 0
    assert await stored(store, context_id) == []
    lease.let_go()
