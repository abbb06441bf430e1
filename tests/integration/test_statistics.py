"""The counts of contexts: exact, and from keys alone."""

from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.context import ContextStatus
from agent_service.store import Store
from agent_service.telemetry.metrics import QueueName
from tests.support.contexts import NOW, SECOND, a_context, many_contexts
from tests.support.explained_commands import CommandRecorder, Document, explain
from tests.support.fleets import insert_ended, insert_standing
from tests.support.worker_tools import Raw

DEFAULT, FAST = QueueName("generation", "default"), QueueName("generation", "fast")
CHECKS = QueueName("analysis", "default")


async def test_every_queue_is_named_once_also_where_all_has_ended(any_store: Store, raw: Raw) -> None:
    assert await any_store.statistics.queues() == []
    await insert_standing(any_store)
    await insert_standing(any_store, queue="fast")
    await insert_ended(any_store, raw, ago=1, service="analysis")
    assert await any_store.statistics.queues() == [CHECKS, DEFAULT, FAST]


@pytest.mark.conformance
async def test_contexts_are_counted_by_queue_and_status(any_store: Store, raw: Raw) -> None:
    await insert_standing(any_store)
    await insert_standing(any_store, queue="fast")
    await insert_ended(any_store, raw, ago=1)
    statuses = (
        ContextStatus.PENDING,
        ContextStatus.SCHEDULED,
        ContextStatus.BLOCKED,
        ContextStatus.RUNNING,
        ContextStatus.COMPLETED,
        ContextStatus.FAILED,
    )
    assert [await any_store.statistics.count(DEFAULT, status) for status in statuses] == [1, 2, 3, 4, 1, 0]
    assert [await any_store.statistics.count(FAST, status) for status in statuses] == [1, 2, 3, 4, 0, 0]


async def test_ends_are_counted_from_a_time_to_before_another(any_store: Store, raw: Raw) -> None:
    contexts = [await insert_ended(any_store, raw, ago=ago) for ago in (30, 20, 10)]
    await insert_ended(any_store, raw, ago=20, status=ContextStatus.FAILED)
    first, second, third = (context.finished_at for context in contexts if context.finished_at)
    count = any_store.statistics.count_ended
    completed, failed = ContextStatus.COMPLETED, ContextStatus.FAILED
    # MongoDB keeps milliseconds.
    assert await count(DEFAULT, completed, since=first - SECOND, before=third + SECOND) == 3
    assert await count(DEFAULT, completed, since=second - SECOND, before=third + SECOND) == 2
    assert await count(DEFAULT, completed, since=first - SECOND, before=second - SECOND) == 1
    assert await count(DEFAULT, failed, since=first - SECOND, before=third + SECOND) == 1
    assert await count(FAST, completed, since=first - SECOND, before=third + SECOND) == 0


async def test_the_context_that_has_waited_longest_is_not_the_first_in_line(any_store: Store) -> None:
    assert await any_store.statistics.pending_since(DEFAULT) is None
    urgent = a_context(priority=0, rank=1, run_at=NOW)
    late = a_context(priority=9, rank=9, run_at=NOW - SECOND)
    scheduled = a_context(status=ContextStatus.SCHEDULED, run_at=NOW - 9 * SECOND)
    await any_store.contexts.insert([urgent, late, scheduled])
    assert await any_store.statistics.pending_since(DEFAULT) == NOW - SECOND


async def test_the_latest_that_completed_are_those_that_an_attempt_completed(
    any_store: Store, raw: Raw
) -> None:
    for ago in (50, 5, 500, 1):
        await insert_ended(any_store, raw, ago=ago, waited=ago, took=2 * ago)
    await insert_ended(any_store, raw, ago=2, status=ContextStatus.FAILED)
    copied = a_context(status=ContextStatus.COMPLETED, finished_at=any_store.clock.now(), settled=True)
    await any_store.contexts.insert([copied])
    since = any_store.clock.now() - timedelta(seconds=100)
    found = await any_store.statistics.latest(DEFAULT, since=since, limit=10)
    milliseconds = timedelta(milliseconds=2)
    for context, ago in zip(found, (1, 5, 50), strict=True):
        waited = context.first_started_at - context.released_at
        assert abs(waited - timedelta(seconds=ago)) < milliseconds
        assert abs(context.finished_at - context.started_at - timedelta(seconds=2 * ago)) < milliseconds
    assert len(await any_store.statistics.latest(DEFAULT, since=since, limit=2)) == 1


@pytest.mark.parametrize("others", [10, 500])
async def test_counting_reads_keys_alone_and_only_those_that_it_counts(
    store: Store, raw: Raw, mongodb_uri: str, others: int, recorder: CommandRecorder
) -> None:
    await insert_standing(store)
    await store.contexts.insert(many_contexts(others, service="analysis"))
    await insert_ended(store, raw, ago=1)
    now = store.clock.now()
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder]) as client:
        statistics = Store(client[raw.name]).statistics
        assert await statistics.count(DEFAULT, ContextStatus.RUNNING) == 4
        await statistics.count_ended(DEFAULT, ContextStatus.COMPLETED, since=NOW, before=now + SECOND)
        await statistics.pending_since(DEFAULT)
        await statistics.queues()
    plans = [
        plan
        for command in recorder.named("aggregate", "find", "distinct")
        for plan in await explain(raw, command)
    ]
    assert {index for plan in plans for index in plan.indexes} == {"standing"}
    assert not {stage for plan in plans for stage in plan.stages} & {"COLLSCAN", "SORT", "FETCH"}
    assert {plan.documents for plan in plans} == {0}
    # A count looks at one key behind those that it counts.
    assert [plan.keys for plan in plans[:3]] == [4 + 1, 1 + 1, 1]
    assert max(plan.keys for plan in plans[3:]) <= 3
