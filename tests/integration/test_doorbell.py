"""Doorbell: who waits for something is rung when it happens, and once after every break."""

import asyncio
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import ContextStatus
from agent_service.domain.events import Chunk
from agent_service.domain.settling import Consequences
from agent_service.domain.transitions import completed, released, retry_at
from agent_service.local.child_process import start_child
from agent_service.local.mongod_binary import find_mongod
from agent_service.store import Store
from agent_service.store.doorbell import Topic
from agent_service.store.outcomes import Outcome
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_claim, a_context, insert_claimed
from tests.support.explained_commands import Document
from tests.support.fail_points import fragile_store
from tests.support.listening_bells import LIMIT, NOW_OR_NEVER, listening, silent_until
from tests.support.log_lines import log_lines

DRIVERS = ["pymongo", "motor"]


async def test_work_rings_for_its_service_and_for_no_other(any_store: Store) -> None:
    listeners = (Topic.WORK, "generation"), (Topic.WORK, "analysis"), (Topic.WORK, None), (Topic.WORK, "last")
    async with listening(any_store, *listeners) as [mine, other, every, last]:
        await any_store.contexts.insert([a_context(service="generation")])
        assert await mine.wait(LIMIT)
        assert await every.wait(LIMIT)
        assert await silent_until(any_store, other, last, key="last")


@pytest.mark.conformance
async def test_work_rings_for_whatever_becomes_claimable(any_store: Store) -> None:
    blocked = a_context("next", request_id="r", status=ContextStatus.BLOCKED, waiting_on=("draft",))
    scheduled = a_context(status=ContextStatus.SCHEDULED, run_at=NOW - SECOND)
    [running] = await insert_claimed(any_store, [a_context()])
    await any_store.contexts.insert([blocked, scheduled])
    async with listening(any_store, (Topic.WORK, "generation")) as [bell]:
        follows = Consequences(releases=(("draft", "next"),), cancellations={})
        await any_store.settlement.write_consequences({"r": follows}, at=NOW)
        assert await bell.wait(LIMIT)
        assert await any_store.schedule.promote(NOW) == 1
        assert await bell.wait(LIMIT)
        await any_store.outcomes.apply([Outcome(context=running, transition=released(at=NOW))])
        assert await bell.wait(LIMIT)


async def test_work_does_not_ring_for_what_cannot_be_claimed(any_store: Store) -> None:
    await any_store.contexts.insert([a_context()])
    async with listening(any_store, (Topic.WORK, "generation"), (Topic.WORK, "last")) as [bell, last]:
        await any_store.contexts.insert([a_context(status=ContextStatus.BLOCKED)])
        await any_store.contexts.insert([a_context(status=ContextStatus.SCHEDULED)])
        assert await any_store.claims.claim_one(a_claim())
        assert await silent_until(any_store, bell, last, key="last")


async def test_the_schedule_rings_for_what_is_due_later_only(any_store: Store) -> None:
    retry = retry_at(at=NOW, run_at=NOW + SECOND, error=AN_ERROR, chunks=0)
    [running] = await insert_claimed(any_store, [a_context()])
    async with listening(any_store, (Topic.SCHEDULE, None), (Topic.WORK, "last")) as [bell, last]:
        await any_store.outcomes.apply([Outcome(context=running, transition=retry)])
        assert await bell.wait(LIMIT)
        await any_store.contexts.insert([a_context(status=ContextStatus.SCHEDULED)])
        assert await bell.wait(LIMIT)
        await any_store.contexts.insert([a_context()])
        assert await silent_until(any_store, bell, last, key="last")


async def test_progress_rings_for_its_request_and_for_no_other(any_store: Store) -> None:
    mine, other = a_context(request_id="r-1"), a_context(request_id="r-10")
    await any_store.contexts.insert([mine])
    done = completed(at=NOW, output=None, usage=None, chunks=1)
    listeners = (Topic.PROGRESS, "r-1"), (Topic.PROGRESS, "r-10"), (Topic.WORK, "last")
    async with listening(any_store, *listeners) as [bell, others, last]:
        claimed = await any_store.claims.claim_one(a_claim())
        assert claimed is not None
        assert await bell.wait(LIMIT)
        await any_store.chunks.append(Chunk(context_id=mine.id, attempt=1, seq=1, delta="text", at=NOW))
        assert await bell.wait(LIMIT)
        await any_store.outcomes.apply([Outcome(context=claimed, transition=done)])
        assert await bell.wait(LIMIT)
        assert await silent_until(any_store, others, last, key="last")
        await any_store.chunks.append(Chunk(context_id=other.id, attempt=1, seq=1, delta="text", at=NOW))
        assert await others.wait(LIMIT)
        assert not await bell.wait(NOW_OR_NEVER)


async def test_the_status_of_a_request_rings_for_it_and_for_whoever_listens_to_all(store: Store) -> None:
    about = [(Topic.STATUS, key) for key in ("r", "other", None)] + [(Topic.PROGRESS, "r")]
    async with listening(store, *about) as (own, other, every, progress):
        store.doorbell.ring(Topic.STATUS, "r")
        assert [bell.rung for bell in (own, other, every, progress)] == [True, False, True, False]
        store.doorbell.ring(Topic.STATUS)
        assert [bell.rung for bell in (own, other, every, progress)] == [True, True, True, False]
    store.doorbell.ring(Topic.STATUS, "r")


async def test_whoever_comes_with_another_topic_takes_nothing_from_those_who_wait(any_store: Store) -> None:
    with any_store.doorbell.listen(Topic.WORK, "generation") as first:
        # The stream is opened anew for the second topic while somebody waits for the first to be open.
        waiting = asyncio.Event()

        async def wait() -> bool:
            waiting.set()
            return await any_store.doorbell.opened(LIMIT)

        opened = asyncio.create_task(wait())
        await waiting.wait()
        async with listening(any_store, (Topic.SCHEDULE, None)) as [second]:
            assert await opened
            assert await first.wait(LIMIT)
            await any_store.contexts.insert([a_context()])
            assert await first.wait(LIMIT)
            assert not await second.wait(NOW_OR_NEVER)


async def test_a_ring_is_remembered_until_the_next_wait_and_then_it_is_over(store: Store) -> None:
    async with listening(store, (Topic.WORK, "generation")) as [bell]:
        store.doorbell.ring(Topic.WORK, "analysis")
        store.doorbell.ring(Topic.SCHEDULE)
        assert not await bell.wait(NOW_OR_NEVER)
        store.doorbell.ring(Topic.WORK, "generation")
        assert await bell.wait(NOW_OR_NEVER)
        assert not await bell.wait(NOW_OR_NEVER)
        store.doorbell.ring(Topic.WORK)
        assert await bell.wait(NOW_OR_NEVER)


@pytest.mark.conformance
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_stream_that_lost_its_place_opens_anew_and_rings_everybody_once(
    mongodb_uri: str, database_name: str, driver: str
) -> None:
    listeners = (Topic.WORK, "generation"), (Topic.SCHEDULE, None)
    async with (
        fragile_store(mongodb_uri, database_name, driver=driver) as (store, point),
        listening(store, *listeners) as [work, schedule],
    ):
        await point.fail("getMore", times=1, errorCode=286)
        await store.contexts.insert([a_context()])
        # Nothing of this is about the schedule: it rings because something may have been missed.
        assert await schedule.wait(LIMIT)
        await work.wait(LIMIT)
        await store.contexts.insert([a_context()])
        assert await work.wait(LIMIT)
        assert not await schedule.wait(NOW_OR_NEVER)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_stream_that_cannot_be_opened_is_tried_again(
    mongodb_uri: str, database_name: str, driver: str
) -> None:
    async with fragile_store(mongodb_uri, database_name, driver=driver) as (store, point):
        await point.fail("aggregate", times=3, errorCode=11601)
        async with listening(store, (Topic.WORK, "generation")) as [work]:
            await store.contexts.insert([a_context()])
            assert await work.wait(LIMIT)


@pytest.mark.conformance
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_connection_that_is_cut_misses_nothing(
    mongodb_uri: str, database_name: str, driver: str
) -> None:
    async with (
        fragile_store(mongodb_uri, database_name, driver=driver) as (store, point),
        listening(store, (Topic.WORK, "generation")) as [work],
    ):
        for _ in range(2):
            await point.fail("getMore", times=1, closeConnection=True)
            for _ in range(2):
                await store.contexts.insert([a_context()])
                assert await work.wait(LIMIT)


@pytest.mark.fresh_database
async def test_dropping_the_database_does_not_silence_the_bell(any_store: Store) -> None:
    async with listening(any_store, (Topic.WORK, "generation")) as [work]:
        await any_store.contexts.insert([a_context()])
        assert await work.wait(LIMIT)
        await any_store.drop()
        # The stream ends with the database and opens anew, which rings.
        assert await work.wait(LIMIT)
        await any_store.contexts.insert([a_context()])
        assert await work.wait(LIMIT)


async def open_streams(admin: AsyncMongoClient[Document], app_name: str) -> int:
    """How many change streams a client has open on the server."""
    operations = await admin.admin.aggregate(
        [
            {"$currentOp": {"idleCursors": True, "allUsers": True, "localOps": True}},
            {"$match": {"appName": app_name, "cursor.tailable": True}},
        ]
    )
    return len(await operations.to_list())


@pytest.mark.conformance
@pytest.mark.parametrize("driver", DRIVERS)
async def test_one_stream_serves_all_and_there_is_none_before_anybody_listens_or_after_the_end(
    mongodb_uri: str, database_name: str, driver: str, raw: AsyncDatabase[Document]
) -> None:
    admin = raw.client
    async with fragile_store(mongodb_uri, database_name, driver=driver) as (store, point):
        await store.prepare()
        assert await open_streams(admin, point.app_name) == 0
        listeners = [(Topic.WORK, f"service{number}") for number in range(50)]
        async with listening(store, *listeners, (Topic.PROGRESS, None), (Topic.SCHEDULE, None)):
            await until_open(admin, point.app_name, store, 1)
        await store.close()
        await until_open(admin, point.app_name, store, 0)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "doorbell"]


async def until_open(admin: AsyncMongoClient[Document], app_name: str, store: Store, number: int) -> None:
    """Wait until so many streams are open."""
    async with asyncio.timeout(LIMIT.total_seconds()):
        while await open_streams(admin, app_name) != number:
            # The server notices that nobody reads a stream any more when there is something to read in it.
            await store.contexts.insert([a_context()])


async def test_closing_ends_a_stream_that_is_just_being_replaced(store: Store) -> None:
    with store.doorbell.listen(Topic.WORK):
        assert await store.doorbell.opened(LIMIT)
        with store.doorbell.listen(Topic.PROGRESS):
            await store.doorbell.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "doorbell"]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_without_change_streams_says_so_once_and_everybody_looks(
    tmp_path: Path, driver: str
) -> None:
    arguments = [str(find_mongod()), "--dbpath", str(tmp_path), "--port", "0", "--bind_ip", "127.0.0.1",
                 "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]  # fmt: skip
    server, ready = await start_child(
        arguments, log=tmp_path / "log", ready=r'"id":23016,.*"port":(\d+)', limit=LIMIT
    )
    assert ready is not None
    try:
        uri = f"mongodb://127.0.0.1:{ready.group(1)}/"
        async with Store.connect(uri, driver=driver) as store:
            await store.prepare()
            with log_lines() as lines, store.doorbell.listen(Topic.WORK, "generation") as work:
                assert await work.wait(LIMIT)
                assert not store.doorbell.available
                with store.doorbell.listen(Topic.PROGRESS, "r") as progress:
                    assert not await progress.wait(NOW_OR_NEVER)
                    # A process can still ring for itself.
                    store.doorbell.ring(Topic.PROGRESS, "r")
                    assert await progress.wait(NOW_OR_NEVER)
            assert len(lines) == 1
            assert "no replica set" in lines[0]
    finally:
        await server.stop(grace=LIMIT)
