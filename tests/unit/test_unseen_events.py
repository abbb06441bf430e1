"""What a reader has not seen of a snapshot, without a server: batches, their size, and where they go on."""

import asyncio
from dataclasses import replace

import pytest

from agent_service.domain.context import AttemptOutcome, AttemptRecord, Context, ContextStatus
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.events import Chunk, ChunkPage, Cursor, Event, EventType
from agent_service.domain.request import RequestStatus
from agent_service.request_snapshot import LatestChunks, Snapshot, StepView
from agent_service.store import Store
from agent_service.unseen_events import ChunkPages, UnseenEvents
from tests.support.api import memory_store
from tests.support.contexts import NOW, a_context, a_request, a_step

STEPS = ("one", "two")
REQUEST = a_request(*(a_step(name) for name in STEPS), id="r")


def running(step: str) -> Context:
    return a_context(step, request_id="r", status=ContextStatus.RUNNING, attempt=1, started_at=NOW)


def completed(step: str, *, chunks: int) -> Context:
    record = AttemptRecord(
        attempt=1,
        token="t",
        worker="w",
        started_at=NOW,
        ended_at=NOW,
        outcome=AttemptOutcome.COMPLETED,
        chunks=chunks,
    )
    return replace(running(step), status=ContextStatus.COMPLETED, finished_at=NOW, history=(record,))


async def fill(store: Store, step: str, *deltas: str) -> None:
    for seq, delta in enumerate(deltas, start=1):
        await store.chunks.append(Chunk(context_id=f"r.{step}", attempt=1, seq=seq, delta=delta, at=NOW))


def views(*contexts: Context, changed_in: int = 1) -> dict[str, StepView]:
    return {context.step: StepView(context=context, changed_in=changed_in) for context in contexts}


async def batches(unseen: UnseenEvents) -> list[list[Event]]:
    found = []
    while batch := await unseen.next():
        found.append(list(batch))
    return found


async def test_long_output_comes_in_small_batches_and_its_end_last() -> None:
    store = memory_store()
    deltas = [f"{number} " for number in range(1_000)]
    await fill(store, "one", *deltas)
    await fill(store, "two", "x" * 40_000, "y" * 40_000, "z" * 40_000)
    ended = replace(REQUEST, status=RequestStatus.COMPLETED, finished_at=NOW)
    stored = views(completed("one", chunks=1_000), completed("two", chunks=3))
    found = await batches(
        UnseenEvents(Snapshot(request=ended, views=stored, number=1), Cursor(), ChunkPages(store))
    )
    assert max(len(batch) for batch in found) <= 200
    assert max(sum(len(event.delta or "") for event in batch) for batch in found) < 2 * 262_144
    events = [event for batch in found for event in batch]
    assert "".join(event.delta or "" for event in events if event.step == "one") == "".join(deltas)
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == (EventType.REQUEST_ACCEPTED, EventType.REQUEST_COMPLETED)
    assert len({str(event.cursor) for event in events}) == len(events)


async def test_what_did_not_change_is_not_looked_at_again() -> None:
    store = memory_store()
    snapshot = Snapshot(
        request=REQUEST,
        views=views(running("one"), changed_in=1) | views(running("two"), changed_in=2),
        number=2,
    )
    cursor = Cursor.parse("@0,one:1.0,two:1.0")
    await fill(store, "one", "not looked for")
    await fill(store, "two", "new")
    found = await batches(UnseenEvents(snapshot, cursor, ChunkPages(store), seen=1))
    assert [[(event.step, event.delta) for event in batch] for batch in found] == [[("two", "new")]]


async def test_the_chunks_of_a_snapshot_are_used_where_they_reach_back_to_the_reader() -> None:
    store = memory_store()
    chunks = tuple(Chunk(context_id="r.one", attempt=1, seq=seq, delta="kept", at=NOW) for seq in (3, 4))
    view = StepView(
        context=running("one"), latest=LatestChunks(attempt=1, after=2, chunks=chunks), changed_in=1
    )
    await fill(store, "one", *["stored"] * 4)
    snapshot = Snapshot(request=REQUEST, views={"one": view}, number=1)
    for after, expected in ((3, ["kept"]), (2, ["kept", "kept"]), (1, ["stored"] * 3)):
        cursor = Cursor.parse(f"@0,one:1.{after}")
        found = await batches(UnseenEvents(snapshot, cursor, ChunkPages(store)))
        assert [event.delta for batch in found for event in batch] == expected


async def test_an_end_whose_chunks_are_not_all_there_is_not_told() -> None:
    store = memory_store()
    await fill(store, "one", "first")
    snapshot = Snapshot(request=REQUEST, views=views(completed("one", chunks=2)), number=1)
    unseen = UnseenEvents(snapshot, Cursor(), ChunkPages(store))
    assert [event.type for event in await unseen.next()] == [EventType.REQUEST_ACCEPTED]
    with pytest.raises(StoreUnavailable):
        await unseen.next()
    await store.chunks.append(Chunk(context_id="r.one", attempt=1, seq=2, delta="second", at=NOW))
    assert [event.delta or event.type.value for event in await unseen.next()] == [
        "step.pending",
        "step.running",
        "first",
        "second",
        "step.completed",
    ]


async def test_readers_that_catch_up_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    await fill(store, "one", *["x"] * 10)
    pages = ChunkPages(store)
    view = StepView(context=running("one"), changed_in=1)
    at_once = most = 0
    read = store.chunks.read

    async def counted(context_id: str, attempt: int, *, after: int) -> ChunkPage:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        page = await read(context_id, attempt, after=after)
        at_once -= 1
        return page

    monkeypatch.setattr(store.chunks, "read", counted)
    found = await asyncio.gather(*(pages.read(view, Cursor()) for _ in range(100)))
    assert {len(page.chunks) for page in found} == {10}
    assert most == 16
