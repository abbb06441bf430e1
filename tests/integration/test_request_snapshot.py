"""What is read of a request again and again: everything that changed, and little else."""

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import RequestNotFound
from agent_service.domain.events import Chunk, ChunkPage, Cursor
from agent_service.request_service import RequestService
from agent_service.request_snapshot import LatestChunks, Snapshot, SnapshotReader
from agent_service.store import Store
from agent_service.store.notifier.progress_subscription import Progress
from tests.support.contexts import NOW
from tests.support.explained_commands import CommandRecorder
from tests.support.hand_worker import claim, end, success, work_off

ALL = Progress(everything=True)
THREE = {"steps": [{"name": name, "service": "generation", "input": name} for name in ("a", "b", "c")]}


def chunk(seq: int, delta: str = "x", *, context_id: str = "r.a", attempt: int = 1) -> Chunk:
    return Chunk(context_id=context_id, attempt=attempt, seq=seq, delta=delta, at=NOW)


def test_the_latest_chunks_are_few_short_and_without_a_gap() -> None:
    latest = LatestChunks(attempt=1, after=0).grown([chunk(seq) for seq in range(1, 101)])
    assert (latest.after, latest.last, len(latest.chunks)) == (68, 100, 32)
    long = latest.grown([chunk(101, "y" * 10_000), chunk(102, "z" * 10_000)])
    assert (long.after, [each.seq for each in long.chunks]) == (101, [102])
    huge = long.grown([chunk(103, "z" * 100_000)])
    assert (huge.after, [each.seq for each in huge.chunks]) == (102, [103])


def test_a_page_of_the_latest_chunks_begins_where_its_reader_is_or_is_none() -> None:
    latest = LatestChunks(attempt=2, after=3).grown([chunk(4), chunk(5)])
    assert latest.page(2, 2) is None
    assert latest.page(1, 4) is None
    assert latest.page(2, 3) == ChunkPage(chunks=(chunk(4), chunk(5)))
    assert latest.page(2, 4) == ChunkPage(chunks=(chunk(5),))
    assert latest.page(2, 99) == ChunkPage()


async def test_a_snapshot_shows_what_changed_since_the_one_before_and_keeps_the_rest(
    store: Store, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(THREE)).request.id
    reader = SnapshotReader(store, request_id)
    first = await reader.read_next(None, ALL)
    assert set(first.views) == {"a", "b", "c"}
    (a,) = await claim(contexts, "generation")
    second = await reader.read_next(first, Progress(contexts={a.id}))
    assert {name for name, view in second.views.items() if view.changed_in == second.number} == {a.step}
    latest = second.views[a.step].latest
    assert latest == LatestChunks(attempt=1, after=0)
    await contexts.store_chunk(chunk(1, "hello", context_id=a.id))
    third = await reader.read_next(second, Progress(chunks={a.id}))
    latest = third.views[a.step].latest
    assert latest is not None
    assert [each.delta for each in latest.chunks] == ["hello"]
    # A look that finds nothing changes nothing.
    fourth = await reader.read_next(third, ALL)
    assert fourth.views == third.views
    await end(contexts, a, success(contexts, a))
    await work_off(contexts)
    last = await reader.read_next(fourth, ALL)
    assert (fourth.is_last, last.is_last) == (False, True)


async def test_a_chunk_costs_one_query_and_a_change_of_a_step_two(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    requests, contexts = RequestService(recorded_store), ContextManager(recorded_store)
    request_id = (await requests.submit(THREE)).request.id
    reader = SnapshotReader(recorded_store, request_id)
    (a,) = await claim(contexts, "generation")
    snapshot = await reader.read_next(None, ALL)
    await contexts.store_chunk(chunk(1, context_id=a.id))
    assert await queries(recorder, reader, snapshot, Progress(chunks={a.id})) == ["events"]
    assert await queries(recorder, reader, snapshot, Progress(contexts={a.id})) == ["contexts", "events"]


async def test_steps_that_have_ended_are_never_read_again(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    requests, contexts = RequestService(recorded_store), ContextManager(recorded_store)
    request_id = (await requests.submit(THREE)).request.id
    reader = SnapshotReader(recorded_store, request_id)
    claimed = await claim(contexts, "generation", limit=2)
    for context in claimed:
        await end(contexts, context, success(contexts, context))
    snapshot = await reader.read_next(None, ALL)
    recorder.sent.clear()
    await reader.read_next(snapshot, ALL)
    (read,) = [command for command in recorder.named("find") if command["find"] == "contexts"]
    left = {f"{request_id}.{name}" for name in "abc"} - {context.id for context in claimed}
    assert set(read["filter"]["_id"]["$in"]) == left
    recorder.sent.clear()
    steps = {context.step: "end" for context in claimed}
    cursor = Cursor.parse(",".join(["@0", *(f"{name}:{place}" for name, place in steps.items())]))
    assert set((await reader.read_new(cursor)).views) == {name.rpartition(".")[2] for name in left}


async def queries(
    recorder: CommandRecorder, reader: SnapshotReader, before: Snapshot, progress: Progress
) -> list[str]:
    recorder.sent.clear()
    await reader.read_next(before, progress)
    return [str(command["find"]) for command in recorder.named("find")]


async def test_a_request_that_is_not_there_is_not_found(store: Store) -> None:
    reader = SnapshotReader(store, "none")
    with pytest.raises(RequestNotFound):
        await reader.read_next(None, ALL)
    with pytest.raises(RequestNotFound):
        await reader.read_new(Cursor())


async def test_what_a_new_primary_does_not_have_yet_is_not_taken_for_all(
    store: Store, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(THREE)).request.id
    reader = SnapshotReader(store, request_id)
    (a,) = await claim(contexts, "generation")
    before = await reader.read_next(None, ALL)
    # It says that there are two chunks, of which one cannot be seen.
    await contexts.store_chunk(chunk(1, context_id=a.id))
    await end(contexts, a, success(contexts, a, chunks=2))
    after = await reader.read_next(before, Progress(contexts={a.id}))
    assert after.views[a.step].context.status.ended
    assert after.views[a.step].latest is None
