"""What the whole fleet has done: told by each process, once."""

import pytest
from pymongo.errors import ServerSelectionTimeoutError

from agent_service.domain.context import AttemptOutcome
from agent_service.domain.errors import StoreUnavailable, WriteOutcomeUnknown
from agent_service.store import Store
from agent_service.telemetry.metrics import Counted, QueueName, Tally, WorkCounts
from tests.support.worker_tools import Raw, trouble

DEFAULT = QueueName("generation", "default")
ODD = QueueName("generation", "a/b.c$d")


def count_a_little(tally: Tally, name: QueueName = DEFAULT) -> None:
    tally.of(*name).count(Counted.CLAIM)
    tally.of(*name).count(Counted.CLAIMED, 2)
    tally.of(*name).ended(AttemptOutcome.COMPLETED, waited=0.2, took=3)
    tally.of(*name).ended(AttemptOutcome.LEASE_LOST, waited=0.01, took=1_000)


def a_little(*times: Tally) -> WorkCounts:
    counts = WorkCounts()
    for tally in times:
        for _, told in tally.take():
            counts.add(told)
    return counts


async def test_processes_add_up_and_queues_stay_apart(any_store: Store) -> None:
    for _ in range(2):
        for name in (DEFAULT, ODD):
            count_a_little(any_store.counters.tally, name)
        await any_store.counters.tell()
    told = await any_store.counters.all()
    assert set(told) == {DEFAULT, ODD}
    expected = Tally()
    count_a_little(expected)
    count_a_little(expected)
    assert told[DEFAULT] == told[ODD] == a_little(expected)


async def test_nothing_is_sent_where_nothing_was_counted(any_store: Store, raw: Raw) -> None:
    await any_store.counters.tell()
    count_a_little(any_store.counters.tally)
    await any_store.counters.tell()
    await any_store.counters.tell()
    assert await raw["counters"].count_documents({}) == 1
    assert (await any_store.counters.all())[DEFAULT].events[Counted.CLAIM] == 1


async def test_what_was_not_sent_is_told_the_next_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    count_a_little(store.counters.tally)
    with monkeypatch.context() as patch:

        async def refuse(*args: object, **options: object) -> None:
            raise ServerSelectionTimeoutError("no server")

        patch.setattr(store.counters._counters, "update_one", refuse)
        with pytest.raises(StoreUnavailable):
            await store.counters.tell()
    count_a_little(store.counters.tally)
    await store.counters.tell()
    assert (await store.counters.all())[DEFAULT].events[Counted.CLAIM] == 2


async def test_what_may_have_been_added_is_not_added_again(store: Store, raw: Raw) -> None:
    count_a_little(store.counters.tally)
    namespace = f"{raw.name}.counters"
    unconfirmed = {"code": 64, "errmsg": "waiting for replication timed out"}
    async with trouble(raw, ["update"], namespace=namespace, writeConcernError=unconfirmed):
        with pytest.raises(WriteOutcomeUnknown):
            await store.counters.tell()
    await store.counters.tell()
    assert (await store.counters.all())[DEFAULT].events[Counted.CLAIM] == 1


async def test_what_another_version_counts_and_what_is_odd_is_passed_over(store: Store, raw: Raw) -> None:
    count_a_little(store.counters.tally)
    await store.counters.tell()
    before = await store.counters.all()
    await raw["counters"].update_one({}, {"$set": {"events.dreams": 7, "durations.undecided": {"sum": 1}}})
    await raw["counters"].insert_many(
        [{"_id": "bare"}, {"_id": "odd", "service": "a", "queue": "b", "waits": 7}]
    )
    assert await store.counters.all() == before
