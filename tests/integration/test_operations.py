"""Operations: whatever really goes wrong in MongoDB comes out as an error of our own, in time."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import dns.resolver
import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    InvalidOperation,
    ServerSelectionTimeoutError,
)

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import ConfigurationError as SettingError
from agent_service.domain.errors import StoreError, StoreUnavailable, UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.events import Chunk
from agent_service.domain.request import RequestStatus
from agent_service.domain.settling import Consequences
from agent_service.domain.stop import CANCELLED, DEADLINE
from agent_service.domain.transitions import released
from agent_service.store import Store
from agent_service.store.driver import update_once
from agent_service.store.operations import is_duplicate, reading, writing
from agent_service.store.outcomes import Outcome
from agent_service.telemetry.metrics import QueueName
from tests.support.claiming import a_stretch, claim_one
from tests.support.contexts import (
    AN_ERROR,
    NOW,
    SECOND,
    a_claim,
    a_context,
    a_lease,
    a_request,
)
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.fail_points import fragile_store

RUNNING = a_context(status=ContextStatus.RUNNING, lease=a_lease(), attempt=1, tries=1)
RELEASED = released(at=NOW)
QUEUE = QueueName("generation", "default")
CHUNK = Chunk(context_id="r.draft", attempt=1, seq=1, delta="text", at=NOW)
FOLLOWS = Consequences(releases=(), cancellations={"draft": AN_ERROR})
EVERY_COMMAND = ("find", "insert", "update", "findAndModify", "delete", "aggregate", "hello",
                 "createIndexes", "listIndexes", "distinct")  # fmt: skip

READS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "claims.find_claimed": lambda s: s.claims.find_claimed(a_lease()),
    "claims.depth": lambda s: s.claims.depth("generation", "default"),
    "leases.read": lambda s: s.leases.read(["r.draft"], limit=SECOND),
    "leases.expired": lambda s: s.leases.expired(NOW),
    "schedule.next_run_at": lambda s: s.schedule.next_run_at(),
    "schedule.promote": lambda s: s.schedule.promote(NOW),
    "settlement.unsettled": lambda s: s.settlement.unsettled(NOW),
    "cancellation.asked_for": lambda s: s.cancellation.asked_for(),
    "cancellation.overdue": lambda s: s.cancellation.overdue(NOW),
    "requests.get": lambda s: s.requests.get("r"),
    "requests.by_idempotency_key": lambda s: s.requests.by_idempotency_key("o", "k"),
    "requests.unplanned_ids": lambda s: s.requests.unplanned_ids(NOW),
    "requests.unplanned": lambda s: s.requests.unplanned(["r"]),
    "requests.variables": lambda s: s.requests.variables("r"),
    "contexts.of_request": lambda s: s.contexts.of_request("r"),
    "contexts.existing": lambda s: s.contexts.existing(["r.draft"]),
    "contexts.progress": lambda s: s.contexts.progress(["r.draft"]),
    "contexts.outputs": lambda s: s.contexts.outputs("r", ["draft"]),
    "callbacks.ended": lambda s: s.callbacks.ended(["r"]),
    "chunks.read": lambda s: s.chunks.read("r.draft", 1, after=0),
    "workers.seen_since": lambda s: s.workers.seen_since(NOW),
    "statistics.queues": lambda s: s.statistics.queues(),
    "statistics.count": lambda s: s.statistics.count(QUEUE, ContextStatus.PENDING),
    "statistics.pending_since": lambda s: s.statistics.pending_since(QUEUE),
    "statistics.latest": lambda s: s.statistics.latest(QUEUE, since=NOW, limit=1),
    "counters.all": lambda s: s.counters.all(),
    "measure_clock": lambda s: s.measure_clock(),
    "problems": lambda s: s.problems(),
}
WRITES: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "claims.claim_one": lambda s: s.claims.claim_one(a_claim(), a_stretch()),
    "leases.renew": lambda s: s.leases.renew({RUNNING.id: "token"}, NOW, limit=SECOND),
    "leases.take_back": lambda s: s.leases.take_back(RUNNING, RELEASED),
    "outcomes.apply": lambda s: s.outcomes.apply([Outcome(context=RUNNING, transition=RELEASED)]),
    "settlement.write_consequences": lambda s: s.settlement.write_consequences(
        {"r": FOLLOWS}, freed={}, at=NOW
    ),
    "settlement.write_statuses": lambda s: s.settlement.write_statuses(
        {"r": RequestStatus.RUNNING}, at=NOW, expires_at=NOW
    ),
    "cancellation.ask": lambda s: s.cancellation.ask("r"),
    "cancellation.flag_contexts": lambda s: s.cancellation.flag_contexts("r", DEADLINE),
    "cancellation.end_waiting": lambda s: s.cancellation.end_waiting("r", CANCELLED, at=NOW),
    "settlement.let_expire": lambda s: s.settlement.let_expire(["r"], requests_expire_at=NOW),
    "settlement.settle_sole": lambda s: s.settlement.settle_sole(
        ["r.draft"], streamed=[], requests_expire_at=NOW
    ),
    "settlement.mark_settled": lambda s: s.settlement.mark_settled(["r.draft"]),
    "requests.insert": lambda s: s.requests.insert(a_request()),
    "requests.mark_planned": lambda s: s.requests.mark_planned(["r"]),
    "contexts.insert": lambda s: s.contexts.insert([a_context()]),
    "chunks.append": lambda s: s.chunks.append(CHUNK),
    "workers.remove": lambda s: s.workers.remove("worker"),
}
FAILURES: dict[str, Document] = {
    "the connection is cut": {"closeConnection": True},
    "the primary stepped down": {"errorCode": 10107},
    "the time is over": {"errorCode": 50},
    "interrupted": {"errorCode": 11601},
}


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_whatever_fails_for_good_comes_out_as_an_error_of_our_own(
    mongodb_uri: str, database_name: str, driver: str
) -> None:
    recorder, told = CommandRecorder(), defaultdict[str, set[type]](set)
    async with fragile_store(mongodb_uri, database_name, driver=driver, event_listeners=[recorder]) as (
        store,
        point,
    ):
        for how in FAILURES.values():
            await point.fail(*EVERY_COMMAND, **how)
            for operations, expected in ((READS, StoreUnavailable), (WRITES, WriteOutcomeUnknown)):
                for name, operation in operations.items():
                    recorder.sent.clear()
                    # An operation goes on trying until its time is over, so it gets less of it here.
                    started = time.monotonic()
                    with pymongo.timeout(0.1), pytest.raises(StoreError) as caught:
                        await operation(store)
                    assert time.monotonic() - started < 5, (name, how)
                    # A driver that does not find the server again in this time has sent no write.
                    unsent = StoreUnavailable if not recorder.sent else expected
                    assert type(caught.value) in (expected, unsent), (name, how)
                    told[name].add(type(caught.value))
    assert [name for name in READS if told[name] != {StoreUnavailable}] == []
    assert [name for name in WRITES if WriteOutcomeUnknown not in told[name]] == []


@pytest.mark.conformance
@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize("how", [{"closeConnection": True}, {"errorCode": 10107}], ids=str)
async def test_a_failure_that_passes_is_ridden_out(
    mongodb_uri: str, database_name: str, driver: str, how: Document
) -> None:
    context = a_context()
    async with fragile_store(mongodb_uri, database_name, driver=driver) as (store, point):
        await point.fail("insert", times=1, **how)
        await store.contexts.insert([context])
        await point.fail("findAndModify", times=1, **how)
        claimed = await claim_one(store, a_claim())
        await point.fail("find", times=1, **how)
        assert await store.contexts.of_request(context.request_id) == [claimed]
    assert claimed is not None
    assert (claimed.id, claimed.attempt) == (context.id, 1)


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_server_that_does_not_answer_is_given_up_after_the_limit(
    mongodb_uri: str, database_name: str, driver: str
) -> None:
    async with fragile_store(mongodb_uri, database_name, driver=driver) as (store, point):
        await store.contexts.of_request("a connection is open")
        for commands, expected in (("update", WriteOutcomeUnknown), ("find", StoreUnavailable)):
            await point.fail(commands, blockConnection=True, blockTimeMS=2_500)
            started = time.monotonic()
            with pytest.raises(expected):
                await store.leases.renew({"r.draft": "token"}, NOW, limit=SECOND / 2)
            assert time.monotonic() - started < 2.3
            await point.off()


async def test_a_refusal_that_no_retry_mends_is_told_apart(mongodb_uri: str, database_name: str) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await point.fail("find", "insert", "update", errorCode=13)
        for operation in (READS["requests.get"], WRITES["requests.insert"], WRITES["leases.renew"]):
            with pytest.raises(StoreError, match="refused") as caught:
                await operation(store)
            assert type(caught.value) is StoreError


async def test_a_write_that_the_majority_did_not_confirm_is_unknown(
    mongodb_uri: str, database_name: str
) -> None:
    unconfirmed: Document = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await point.fail("insert", "update", "findAndModify", "delete", **unconfirmed)
        for name, operation in WRITES.items():
            with pytest.raises(WriteOutcomeUnknown):
                await operation(store)
            assert name


async def test_duplicates_pass_through_to_whoever_knows_what_they_mean(raw: AsyncDatabase[Document]) -> None:
    things = raw["things"]
    await things.insert_one({"_id": 1})
    with pytest.raises(DuplicateKeyError), writing():
        await things.insert_one({"_id": 1})
    with pytest.raises(BulkWriteError) as caught, writing():
        await things.insert_many([{"_id": 2}, {"_id": 1}])
    assert is_duplicate(caught.value)


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 17_000_000, id="too large"),
        pytest.param("x" * 50_000_000, id="larger than any message"),
        pytest.param(deep(190), id="too deep for the server"),
        pytest.param(deep(5_000), id="too deep for the driver"),
        pytest.param(2**64, id="an integer over 64 bits"),
        pytest.param({"a\0b": 1}, id="NUL in a key"),
        pytest.param("\ud800", id="half a character"),
        pytest.param(object(), id="no JSON at all"),
    ],
)
async def test_what_cannot_be_stored_is_told_whichever_way_it_is_written(
    raw: AsyncDatabase[Document], value: Any
) -> None:
    things = raw["things"]
    await things.insert_one({"_id": 1, "before": "as it was"})
    change = {"$set": {"value": value}}
    with pytest.raises(UnstorableValue), writing():
        await things.insert_one({"value": value})
    with pytest.raises(UnstorableValue), writing():
        await things.insert_many([{"value": value}])
    with pytest.raises(UnstorableValue), writing():
        await things.update_one({"_id": 1}, change)
    with pytest.raises(UnstorableValue), writing():
        await things.bulk_write([pymongo.UpdateOne({"_id": 1}, change)], ordered=False)
    with pytest.raises(UnstorableValue), writing():
        await update_once(raw, "things", [{"q": {"_id": 1}, "u": change}])
    with pytest.raises(UnstorableValue), writing():
        await things.find_one_and_update({"_id": 1}, change)
    assert await things.find().to_list() == [{"_id": 1, "before": "as it was"}]


def test_a_write_that_was_never_sent_is_known_to_be_unwritten() -> None:
    error = ServerSelectionTimeoutError("no primary, Timeout: 3.0s, Topology Description: <secret>")
    with pytest.raises(StoreUnavailable) as caught, writing():
        raise error
    assert str(caught.value) == "ServerSelectionTimeoutError: no primary"
    with pytest.raises(WriteOutcomeUnknown), writing():
        raise InvalidOperation("the client is closed")


@pytest.mark.parametrize("border", [reading, writing])
def test_a_wrong_setting_is_told_as_one(border: Callable[[], Any]) -> None:
    with pytest.raises(SettingError, match="MONGODB_URI"), border():
        raise ConfigurationError("the DNS name has no SRV record")


@pytest.mark.parametrize("border", [reading, writing])
def test_what_is_not_of_the_database_is_left_alone(border: Callable[[], Any]) -> None:
    with pytest.raises(KeyError), border():
        raise KeyError("a mistake of our own")


async def test_an_address_that_cannot_be_resolved_now_may_be_in_a_moment() -> None:
    with pytest.raises(StoreUnavailable), reading():
        raise ConfigurationError("the DNS query name does not exist") from dns.resolver.NXDOMAIN()  # type: ignore[no-untyped-call]  # dnspython leaves it untyped
    with pytest.raises(SettingError), reading():
        raise ConfigurationError("a member of the set is too old")
