"""Notifier: what one process writes is heard by the others, once it is durable, by those whom it concerns."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.events import Chunk
from agent_service.domain.line import Candidate
from agent_service.domain.request import RequestStatus
from agent_service.domain.settling import Consequences
from agent_service.domain.stop import CANCELLED
from agent_service.domain.transitions import completed, released, retry_at
from agent_service.local.child_process import start_child
from agent_service.local.mongod_binary import find_mongod
from agent_service.store import Store
from agent_service.store.notifier import Topic
from agent_service.store.outcomes import Outcome
from tests.support.claiming import claim_one
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_claim, a_context, insert_claimed
from tests.support.explained_commands import Document
from tests.support.fail_points import fragile_store
from tests.support.log_lines import log_lines
from tests.support.open_subscriptions import LIMIT, NOW_OR_NEVER, silent_until, subscribed
from tests.support.waiting import until

DRIVERS = ["pymongo", "motor"]


@pytest.fixture
async def speaker(mongodb_uri: str, database_name: str, any_store: Store) -> AsyncIterator[Store]:
    """Another process on the same database."""
    async with Store.connect(mongodb_uri, database=database_name) as connected:
        await connected.measure_clock()
        yield connected


async def test_work_is_told_to_those_of_its_service_in_every_process(
    any_store: Store, speaker: Store
) -> None:
    topics = (Topic.WORK, "generation"), (Topic.WORK, "analysis"), (Topic.WORK, None), (Topic.WORK, "last")
    async with (
        subscribed(any_store, *topics) as [mine, other, every, last],
        subscribed(speaker, (Topic.WORK, "generation")) as [its_own],
    ):
        await speaker.contexts.insert([a_context(service="generation")])
        assert await its_own.wait(NOW_OR_NEVER)
        assert await mine.wait(LIMIT)
        assert await every.wait(LIMIT)
        assert await silent_until(speaker, other, last, key="last")
        # What it said itself it does not hear again.
        assert not await its_own.wait(NOW_OR_NEVER)


@pytest.mark.conformance
async def test_work_is_told_of_whatever_becomes_claimable(any_store: Store, speaker: Store) -> None:
    blocked = a_context("next", request_id="r", status=ContextStatus.BLOCKED, waiting_on=("draft",))
    scheduled = a_context(status=ContextStatus.SCHEDULED, run_at=NOW - SECOND)
    [running] = await insert_claimed(speaker, [a_context()])
    await speaker.contexts.insert([blocked, scheduled])
    async with subscribed(any_store, (Topic.WORK, "generation")) as [work]:
        follows = Consequences(releases=(("draft", "next"),), cancellations={})
        freed = {blocked.line: [Candidate(blocked.id, blocked.rank)]}
        await speaker.settlement.write_consequences({"r": follows}, freed=freed, at=NOW)
        assert await work.wait(LIMIT)
        assert await speaker.schedule.promote(NOW) == 1
        assert await work.wait(LIMIT)
        await speaker.outcomes.apply([Outcome(context=running, transition=released(at=NOW))])
        assert await work.wait(LIMIT)


async def test_nothing_is_told_of_work_that_cannot_be_claimed(any_store: Store, speaker: Store) -> None:
    await speaker.contexts.insert([a_context()])
    async with subscribed(any_store, (Topic.WORK, "generation"), (Topic.WORK, "last")) as [work, last]:
        await speaker.contexts.insert([a_context(status=ContextStatus.BLOCKED)])
        await speaker.contexts.insert([a_context(status=ContextStatus.SCHEDULED)])
        assert await claim_one(speaker, a_claim())
        assert await silent_until(speaker, work, last, key="last")


async def test_the_schedule_is_told_of_what_is_due_later_only(any_store: Store, speaker: Store) -> None:
    retry = retry_at(at=NOW, run_at=NOW + SECOND, error=AN_ERROR, chunks=0)
    [running] = await insert_claimed(speaker, [a_context()])
    async with subscribed(any_store, (Topic.SCHEDULE, None), (Topic.WORK, "last")) as [schedule, last]:
        await speaker.outcomes.apply([Outcome(context=running, transition=retry)])
        assert await schedule.wait(LIMIT)
        await speaker.contexts.insert([a_context(status=ContextStatus.SCHEDULED)])
        assert await schedule.wait(LIMIT)
        await speaker.contexts.insert([a_context()])
        assert await silent_until(speaker, schedule, last, key="last")


async def test_readers_are_told_of_their_request_and_of_no_other(any_store: Store, speaker: Store) -> None:
    mine, other = a_context(request_id="r-1"), a_context(request_id="r-10")
    await speaker.contexts.insert([mine])
    done = completed(at=NOW, output=None, usage=None, chunks=1)
    topics = (Topic.PROGRESS, "r-1"), (Topic.PROGRESS, "r-10"), (Topic.STATUS, "r-1")
    async with subscribed(any_store, *topics) as [progress, others, status]:
        claimed = await claim_one(speaker, a_claim())
        assert claimed is not None
        assert await progress.wait(LIMIT)
        await speaker.chunks.append(Chunk(context_id=mine.id, attempt=1, seq=1, delta="text", at=NOW))
        assert await progress.wait(LIMIT)
        await speaker.outcomes.apply([Outcome(context=claimed, transition=done)])
        assert await progress.wait(LIMIT)
        assert not status.notified
        await speaker.settlement.write_statuses({"r-1": RequestStatus.COMPLETED}, at=NOW, expires_at=NOW)
        assert await status.wait(LIMIT)
        assert await progress.wait(LIMIT)
        assert not others.notified
        await speaker.chunks.append(Chunk(context_id=other.id, attempt=1, seq=1, delta="text", at=NOW))
        assert await others.wait(LIMIT)
        assert not progress.notified


async def test_a_stop_is_told_to_those_of_the_request(any_store: Store, speaker: Store) -> None:
    await speaker.contexts.insert([a_context(request_id="r")])
    async with subscribed(any_store, (Topic.STOP, "r"), (Topic.STOP, "other")) as [stop, other]:
        await speaker.cancellation.flag_contexts("r", CANCELLED)
        assert await stop.wait(LIMIT)
        assert not other.notified


async def test_what_changes_whether_a_service_may_be_called_is_told(any_store: Store, speaker: Store) -> None:
    topics = (Topic.SERVICES, "generation"), (Topic.SERVICES, "analysis")
    async with subscribed(any_store, *topics) as [services, other]:
        await speaker.services.hold_until("generation", NOW, reason="asked", now=NOW)
        assert await services.wait(LIMIT)
        assert await speaker.services.lift("generation", "retry_after")
        assert await services.wait(LIMIT)
        assert not other.notified


async def test_a_lone_claim_is_told_to_those_who_would_look_for_it(any_store: Store, speaker: Store) -> None:
    await speaker.contexts.insert([a_context(), a_context()])
    async with subscribed(any_store, (Topic.TAKEN, "generation")) as [taken]:
        await claim_one(speaker, a_claim())
        await claim_one(speaker, a_claim(lone=True))
        assert await taken.wait(LIMIT)
        assert not taken.notified


async def test_a_notification_is_kept_until_the_next_wait_and_then_it_is_over(store: Store) -> None:
    async with subscribed(store, (Topic.WORK, "generation")) as [work]:
        store.notifier.wake(Topic.WORK, "analysis")
        store.notifier.wake(Topic.SCHEDULE)
        assert not await work.wait(NOW_OR_NEVER)
        store.notifier.wake(Topic.WORK, "generation")
        assert await work.wait(NOW_OR_NEVER)
        assert not await work.wait(NOW_OR_NEVER)
        store.notifier.wake(Topic.WORK)
        assert await work.wait(NOW_OR_NEVER)


async def test_whoever_comes_with_another_topic_takes_nothing_from_those_who_wait(
    any_store: Store, speaker: Store
) -> None:
    with any_store.notifier.subscribe(Topic.WORK, "generation") as first:
        # The cursor is opened anew for the second topic while somebody waits for the first to be open.
        opened = asyncio.create_task(any_store.notifier.opened(LIMIT))
        await asyncio.sleep(0)
        async with subscribed(any_store, (Topic.SCHEDULE, None)) as [second]:
            assert await opened
            assert await first.wait(LIMIT)
            await speaker.contexts.insert([a_context()])
            assert await first.wait(LIMIT)
            assert not second.notified


async def test_nothing_is_told_before_a_majority_has_it_and_everything_that_nobody_knows_of(
    mongodb_uri: str, database_name: str, any_store: Store
) -> None:
    await any_store.contexts.insert([a_context()])
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    async with (
        fragile_store(mongodb_uri, database_name) as (speaker, point),
        subscribed(any_store, (Topic.WORK, "generation"), (Topic.WORK, "other")) as [work, other],
    ):
        # While the answer of the majority is on its way, nothing is said.
        await point.fail("insert", times=1, blockConnection=True, blockTimeMS=300)
        inserting = asyncio.create_task(speaker.contexts.insert([a_context()]))
        assert not await work.wait(timedelta(milliseconds=100))
        await inserting
        assert await work.wait(LIMIT)
        await point.fail("insert", times=1, writeConcernError=concern)
        with pytest.raises(WriteOutcomeUnknown):
            await speaker.contexts.insert([a_context(service="other")])
        assert await other.wait(LIMIT)


@pytest.mark.conformance
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_is_no_replica_set_can_notify_as_well(tmp_path: Path, driver: str) -> None:
    arguments = [str(find_mongod()), "--dbpath", str(tmp_path), "--port", "0", "--bind_ip", "127.0.0.1",
                 "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]  # fmt: skip
    server, ready = await start_child(
        arguments, log=tmp_path / "log", ready=r'"id":23016,.*"port":(\d+)', limit=LIMIT
    )
    assert ready is not None
    try:
        uri = f"mongodb://127.0.0.1:{ready.group(1)}/"
        async with Store.connect(uri, driver=driver) as listener, Store.connect(uri) as speaker:
            await listener.prepare()
            async with subscribed(listener, (Topic.WORK, "generation")) as [work]:
                await speaker.contexts.insert([a_context()])
                assert await work.wait(LIMIT)
    finally:
        await server.stop(grace=LIMIT)


async def test_who_may_not_make_the_collections_polls_and_hears_this_process(
    mongodb_uri: str, database_name: str
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        await point.fail("listCollections", errorCode=13)
        with log_lines() as lines, store.notifier.subscribe(Topic.WORK, "generation") as work:
            assert await work.wait(LIMIT)
            assert not store.notifier.available
            await store.contexts.insert([a_context()])
            assert await work.wait(NOW_OR_NEVER)
        assert any("poll every second" in line for line in lines)


async def test_a_burst_larger_than_can_be_named_tells_everybody_to_look(
    any_store: Store, speaker: Store, raw: AsyncDatabase[Document]
) -> None:
    async with subscribed(any_store, (Topic.PROGRESS, "r"), (Topic.STATUS, "other")) as [progress, status]:
        many = [f"{number:032x}.step" for number in range(5_000)]
        speaker.notifier.contexts_changed(many)
        # Spread over a second, so that a thousand readers do not all read at once.
        assert await progress.wait(LIMIT)
        assert await status.wait(LIMIT)
    assert await raw.notifications_events.count_documents({"about": "everything"}) == 1
    for document in await raw.notifications_events.find().to_list():
        assert len(str(document.get("ids", ""))) < 3_000


async def test_a_callers_transaction_is_told_of_after_it_was_committed(
    any_store: Store, speaker: Store, raw: AsyncDatabase[Document]
) -> None:
    async with subscribed(any_store, (Topic.WORK, "generation")) as [work]:
        async with speaker._database.client.start_session() as session, await session.start_transaction():
            await speaker.contexts.insert([a_context()], session=session)
        assert await work.wait(LIMIT)
        # It may have been read before the commit, so it is said once more.
        assert await work.wait(LIMIT)


async def test_what_everybody_wakes_up_before_anyway_is_not_said(
    store: Store, raw: AsyncDatabase[Document]
) -> None:
    now = store.clock.now()
    for seconds in (3_600, 7_200, 60, 120):
        store.notifier.scheduled(now + timedelta(seconds=seconds))
        await until(lambda: store.notifier._work.silent)
    said = [each["run_at"] async for each in raw.notifications_work.find({"about": "schedule"})]
    assert said == [now + timedelta(seconds=3_600), now + timedelta(seconds=60)]
