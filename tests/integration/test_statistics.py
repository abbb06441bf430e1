"""The counts of contexts: exact, and from keys alone."""

import random
from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import rank_at
from agent_service.domain.request import Caller
from agent_service.store import Store
from agent_service.telemetry.metrics import QueueName
from tests.support.contexts import NOW, SECOND, a_context, many_contexts
from tests.support.explained_commands import CommandRecorder, Document, explain
from tests.support.fleets import insert_ended, insert_standing
from tests.support.worker_tools import Raw

DEFAULT, FAST = QueueName("generation", "default"), QueueName("generation", "fast")
CHECKS = QueueName("analysis", "default")
READS = ("aggregate", "find", "distinct")


async def test_every_queue_is_named_once_also_where_all_has_ended(any_store: Store, raw: Raw) -> None:
    assert await any_store.statistics.queues() == []
    await insert_standing(any_store)
    await insert_standing(any_store, queue="fast")
    await insert_ended(any_store, raw, ago=1, service="analysis")
    assert await any_store.statistics.queues() == [CHECKS, DEFAULT, FAST]


@pytest.mark.parametrize("status", ContextStatus)
async def test_a_queue_is_named_wherever_its_only_context_stands(store: Store, status: ContextStatus) -> None:
    await store.contexts.insert([a_context(status=status)])
    assert await store.statistics.queues() == [DEFAULT]


@pytest.mark.conformance
async def test_contexts_are_counted_by_queue_and_status(any_store: Store, raw: Raw) -> None:
    await insert_standing(any_store)
    await insert_standing(any_store, queue="fast")
    await insert_ended(any_store, raw, ago=1)
    statuses = (
        ContextStatus.PENDING,
        ContextStatus.SCHEDULED,
        ContextStatus.BLOCKED,
        ContextStatus.COMPLETED,
        ContextStatus.FAILED,
    )
    assert [await any_store.statistics.count(DEFAULT, status) for status in statuses] == [1, 2, 3, 1, 0]
    assert [await any_store.statistics.count(FAST, status) for status in statuses] == [1, 2, 3, 0, 0]
    assert await any_store.statistics.running() == {DEFAULT: 4, FAST: 4}


@pytest.mark.parametrize("schema", [0, 2, None])
async def test_contexts_of_every_version_are_counted(store: Store, raw: Raw, schema: int | None) -> None:
    await insert_standing(store)
    ended = await insert_ended(store, raw, ago=1)
    await raw["contexts"].update_many({}, {"$set": {"schema": schema}})
    waiting = (ContextStatus.PENDING, ContextStatus.SCHEDULED, ContextStatus.BLOCKED)
    assert [await store.statistics.count(DEFAULT, status) for status in waiting] == [1, 2, 3]
    assert await store.statistics.running() == {DEFAULT: 4}
    assert await store.statistics.queues() == [DEFAULT]
    assert len(await store.statistics.latest(DEFAULT, since=NOW, limit=9)) == 1
    assert ended.finished_at is not None
    since, before = ended.finished_at - SECOND, ended.finished_at + SECOND
    completed = ContextStatus.COMPLETED
    assert await store.statistics.count_ended(DEFAULT, completed, since=since, before=before) == 1


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


async def test_what_has_waited_longest_may_stand_behind_what_became_claimable_just_now(store: Store) -> None:
    """A step that was released, or is tried again, keeps its place in the line."""
    rank = rank_at(NOW)
    retried = a_context(rank=rank - 9_000_000, run_at=NOW + SECOND)
    submitted = a_context(rank=rank, run_at=NOW)
    younger = a_context(rank=rank + 1, run_at=NOW + 9 * SECOND)
    await store.contexts.insert([retried, submitted, younger])
    assert await store.statistics.pending_since(DEFAULT) == NOW


@pytest.mark.parametrize("seed", range(6))
async def test_since_when_a_queue_waits_is_the_earliest_of_all_lines(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    contexts = []
    for _ in range(chance.choice([1, 5, 60])):
        submitted = NOW + chance.randrange(100) * SECOND
        late = chance.choice([0, 0, 30])
        contexts.append(
            a_context(
                caller=Caller(organization_id=f"organization-{chance.randrange(4)}"),
                priority=chance.randrange(3),
                rank=rank_at(submitted),
                run_at=submitted + late * SECOND,
            )
        )
    await store.contexts.insert(contexts)
    assert await store.statistics.pending_since(DEFAULT) == min(context.run_at for context in contexts)
    assert await store.statistics.pending_since(FAST) is None


async def test_what_became_claimable_at_no_time_says_nothing(store: Store, raw: Raw) -> None:
    odd, other = a_context(rank=1), a_context(rank=rank_at(NOW), run_at=NOW, priority=3)
    await store.contexts.insert([odd, other])
    await raw["contexts"].update_one({"_id": odd.id}, {"$set": {"run_at": "yesterday"}})
    assert await store.statistics.pending_since(DEFAULT) == NOW


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
        await statistics.count(DEFAULT, ContextStatus.BLOCKED)
        await statistics.count(DEFAULT, ContextStatus.PENDING)
        await statistics.count_ended(DEFAULT, ContextStatus.COMPLETED, since=NOW, before=now + SECOND)
        await statistics.running()
        await statistics.pending_since(DEFAULT)
        counts = len(recorder.named(*READS))
        await statistics.queues()
    plans = [plan for command in recorder.named(*READS) for plan in await explain(raw, command)]
    assert {index for plan in plans for index in plan.indexes} == {"lines", "others", "running"}
    assert not {stage for plan in plans for stage in plan.stages} & {"COLLSCAN", "SORT", "FETCH"}
    assert {plan.documents for plan in plans} == {0}
    # A count looks at one key behind those that it counts.
    assert [plan.keys for plan in plans[:4]] == [3 + 1, 1 + 1, 1 + 1, 4]
    assert max(plan.keys for plan in plans[4:counts]) <= 2
    assert max(plan.keys for plan in plans[counts:] if plan.indexes != {"running"}) <= 6


async def test_since_when_a_queue_waits_is_read_from_the_heads_of_its_lines(
    store: Store, raw: Raw, mongodb_uri: str, recorder: CommandRecorder
) -> None:
    lines, each = 20, 30
    contexts = [
        a_context(
            caller=Caller(organization_id=f"organization-{line}"),
            rank=rank_at(NOW + place * SECOND) + line,
            run_at=NOW + place * SECOND,
        )
        for line in range(lines)
        for place in range(each)
    ]
    await store.contexts.insert(contexts)
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder]) as client:
        assert await Store(client[raw.name]).statistics.pending_since(DEFAULT) == NOW
    plans = [plan for command in recorder.named(*READS) for plan in await explain(raw, command)]
    assert {plan.documents for plan in plans} == {0}
    # The priorities, the heads, and in each line what was submitted before the earliest of them: nothing.
    assert [plan.keys <= most for plan, most in zip(plans, (1, lines, 2 * lines + 1), strict=True)] == [
        True
    ] * 3, plans
