"""Chunks: appended once, read in order, one attempt at a time."""

import pytest

from agent_service.domain.errors import UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.events import Chunk
from agent_service.store import Store
from agent_service.store.chunks import chunk_id
from tests.support.contexts import NOW
from tests.support.fail_points import fragile_store

pytestmark = pytest.mark.conformance


def a_chunk(seq: int, *, context_id: str = "r.draft", attempt: int = 1, delta: str = "") -> Chunk:
    return Chunk(context_id=context_id, attempt=attempt, seq=seq, delta=delta or f"text {seq}", at=NOW)


async def test_chunks_are_read_in_the_order_of_their_numbers(any_store: Store) -> None:
    chunks = [a_chunk(seq) for seq in (1, 2, 9, 10, 11, 100)]
    for chunk in reversed(chunks):
        await any_store.chunks.append(chunk)
    assert (await any_store.chunks.read("r.draft", 1, after=0)).chunks == chunks
    assert (await any_store.chunks.read("r.draft", 1, after=9)).chunks == chunks[3:]
    assert (await any_store.chunks.read("r.draft", 1, after=2, limit=2)).chunks == chunks[2:4]
    assert (await any_store.chunks.read("r.draft", 1, after=100)).chunks == []


async def test_the_chunks_of_other_attempts_and_contexts_are_not_shown(any_store: Store) -> None:
    mine = a_chunk(1, attempt=2)
    others = [
        a_chunk(1, attempt=1),
        a_chunk(1, attempt=3),
        a_chunk(1, attempt=20),
        a_chunk(1, context_id="r.draft2", attempt=2),
        a_chunk(1, context_id="r2.draft", attempt=2),
    ]
    for chunk in [*others, mine]:
        await any_store.chunks.append(chunk)
    assert (await any_store.chunks.read("r.draft", 2, after=0)).chunks == [mine]


async def test_a_chunk_that_is_stored_already_is_a_success_and_stays(any_store: Store) -> None:
    chunk = a_chunk(1)
    await any_store.chunks.append(chunk)
    await any_store.chunks.append(a_chunk(1, delta="another"))
    assert (await any_store.chunks.read("r.draft", 1, after=0)).chunks == [chunk]


async def test_a_chunk_whose_answer_is_lost_can_be_sent_again(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    chunk = a_chunk(1)
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        await point.fail("insert", writeConcernError={"code": 64, "errmsg": "waiting timed out"})
        with pytest.raises(WriteOutcomeUnknown):
            await fragile.chunks.append(chunk)
        await point.off()
        await fragile.chunks.append(chunk)
        assert (await fragile.chunks.read("r.draft", 1, after=0)).chunks == [chunk]


async def test_a_chunk_that_cannot_be_stored_is_told(any_store: Store) -> None:
    with pytest.raises(UnstorableValue):
        await any_store.chunks.append(a_chunk(1, delta="\ud800"))


def test_ids_sort_like_attempts_and_numbers() -> None:
    ids = [chunk_id("r.draft", attempt, seq) for attempt in (1, 2, 10) for seq in (1, 9, 10, 99_999_999)]
    assert ids == sorted(ids)
