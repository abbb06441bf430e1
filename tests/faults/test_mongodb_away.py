"""MongoDB is away for a while: nothing exits, nothing spins, nothing is promised, and then all goes on."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.store import Store
from tests.faults.support.gate import Gate
from tests.faults.support.whole_process import SERVICES, WholeProcess, whole_process
from tests.support.fail_points import FailPoint
from tests.support.waiting import until
from tests.support.worker_tools import Raw

#: How long MongoDB is away, in seconds; `FAULT_SECONDS=600` for the long form.
AWAY = float(os.environ.get("FAULT_SECONDS", "6"))
MOST_OPERATIONS, MOST_LINES = 20.0, 5.0
#: An answer of the API is there by then, whatever MongoDB does.
ANSWERED_WITHIN = 5.0
WRITES = ("insert", "update", "findAndModify", "delete")
COMMANDS = (*WRITES, "find", "aggregate", "getMore", "createIndexes", "listIndexes")
UNCONFIRMED: dict[str, Any] = {"writeConcernError": {"code": 64, "errmsg": "replication timed out"}}


@pytest.fixture
async def gate(mongodb_uri: str) -> AsyncIterator[Gate]:
    """Between a process and MongoDB."""
    port = int(mongodb_uri.rpartition(":")[2].partition("/")[0])
    async with Gate(port) as gate:
        yield gate


async def gone(gate: Gate, point: FailPoint) -> None:
    await gate.refuse()
    gate.close_connections()


async def silent(gate: Gate, point: FailPoint) -> None:
    await gate.black_hole()


async def full(gate: Gate, point: FailPoint) -> None:
    await point.fail(*COMMANDS, errorCode=14031)


async def without_majority(gate: Gate, point: FailPoint) -> None:
    await point.fail(*WRITES, **UNCONFIRMED)


Away = Callable[[Gate, FailPoint], Awaitable[None]]


@pytest.mark.parametrize(
    "away",
    [gone, *(pytest.param(away, marks=pytest.mark.exhaustive) for away in (silent, full, without_majority))],
    ids=lambda away: away.__name__,
)
@pytest.mark.timeout(AWAY + 180)
async def test_a_process_outlives_an_outage_quietly_and_drains_afterwards(
    gate: Gate, mongodb_uri: str, database_name: str, store: Store, raw: Raw, away: Away
) -> None:
    async with (
        whole_process(gate.mongodb_uri, database_name) as process,
        AsyncMongoClient[dict[str, Any]](mongodb_uri) as admin,
    ):
        point = FailPoint(admin, process.app_name)
        before = [await accepted(process) for _ in range(3)]
        for request_id in before[:1]:
            await process.completed(request_id)
        # As a process that runs for more than two seconds: nobody is about to look once more.
        await until(lambda: not process.store.notifier._subscriptions._looks)
        await away(gate, point)
        process.activity.begin()
        began = monotonic()
        keys: list[str] = []
        while monotonic() - began < AWAY:
            keys.append(uuid.uuid4().hex)
            await assert_refused(process, keys[-1], reads_too=away is not without_majority)
            await asyncio.sleep(AWAY / 4)
        assert_quiet(process)
        await gate.open()
        await point.off()
        # What was refused is sent again with its key, and exists once.
        again = [await accepted(process, key) for key in keys]
        for request_id in (*before, *again):
            await process.completed(request_id)
    await assert_all_done_once(store, raw, requests=len(before) + len(again))


async def test_claims_that_are_never_confirmed_are_handed_back_quietly(
    mongodb_uri: str, database_name: str, store: Store, raw: Raw
) -> None:
    async with (
        whole_process(mongodb_uri, database_name) as process,
        AsyncMongoClient[dict[str, Any]](mongodb_uri) as admin,
    ):
        point = FailPoint(admin, process.app_name)
        await process.completed(await accepted(process))
        # What is claimed is handed back, and rings, and is claimed again.
        await point.fail("findAndModify", namespace=f"{database_name}.contexts", **UNCONFIRMED)
        process.activity.begin()
        ids = [await accepted(process) for _ in range(3)]
        await asyncio.sleep(min(AWAY, 4))
        assert_quiet(process)
        await point.off()
        for request_id in ids:
            await process.completed(request_id)
    await assert_all_done_once(store, raw, requests=4)


def assert_quiet(process: WholeProcess) -> None:
    """Neither MongoDB nor the log hears much of it."""
    operations, lines = process.activity.per_second()
    told = "\n".join(process.activity.lines)
    assert operations < MOST_OPERATIONS, f"{operations:.1f}/s: {process.activity.operations}"
    assert lines < MOST_LINES, f"{lines:.1f} lines/s:\n{told}"


async def accepted(process: WholeProcess, key: str | None = None) -> str:
    """The id of a request that was taken, however often it had to be sent."""
    key = key or uuid.uuid4().hex

    async def taken() -> str | None:
        answer = await process.submit(key)
        assert answer.status_code in (202, 503), answer.text
        return answer.json()["id"] if answer.status_code == 202 else None

    request_id: str = await until(taken, seconds=60, every=0.2)
    return request_id


async def assert_refused(process: WholeProcess, key: str, *, reads_too: bool) -> None:
    """Nothing is acknowledged, and whoever asks is told in time when to ask again."""
    calls: list[Callable[[], Awaitable[Any]]] = [lambda: process.submit(key)]
    if reads_too:
        calls += [
            lambda: process.client.get(f"/v1/requests/{uuid.uuid4().hex}"),
            lambda: process.client.get("/readyz"),
        ]
    began = monotonic()
    for answer in await asyncio.gather(*(call() for call in calls)):
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1
    assert monotonic() - began < ANSWERED_WITHIN + 2, "a busy machine may be late, but not that late"
    assert (await process.client.get("/healthz")).status_code == 200


async def assert_all_done_once(store: Store, raw: Raw, *, requests: int) -> None:
    assert await raw.requests.count_documents({}) == requests
    async for document in raw.requests.find({}, {"_id": 1}):
        contexts = await store.contexts.of_request(document["_id"])
        assert len(contexts) == len(SERVICES)
        for context in contexts:
            outcomes = [record.outcome for record in context.history]
            assert context.status is ContextStatus.COMPLETED
            assert outcomes.count(AttemptOutcome.COMPLETED) == 1
            assert context.tries == 1 + outcomes.count(AttemptOutcome.LEASE_LOST)


@pytest.mark.parametrize("lease", [2.0, 60.0], ids=["longer than the lease", "shorter than the lease"])
async def test_an_attempt_is_written_unless_mongodb_was_away_for_longer_than_its_lease(
    gate: Gate, database_name: str, store: Store, lease: float
) -> None:
    called, may_end, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if (call.step, call.attempt) == ("generation_step", 1):
            called.set()
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                stopped.set()
                raise
        return BaseServiceAnswer(output=f"attempt {call.attempt}")

    async with whole_process(gate.mongodb_uri, database_name, handler=work, lease_seconds=lease) as process:
        request_id = await accepted(process)
        await called.wait()
        await gate.refuse()
        gate.close_connections()
        if lease < 10:
            # The call is stopped while MongoDB is away, at the end of the lease.
            async with asyncio.timeout(30):
                await stopped.wait()
        else:
            may_end.set()
            refused = (await process.submit()).status_code
            assert refused == 503
        await gate.open()
        await process.completed(request_id)
    context = next(c for c in await store.contexts.of_request(request_id) if c.step == "generation_step")
    first = context.history[0].outcome
    if lease < 10:
        assert first is AttemptOutcome.LEASE_LOST
        assert context.output == f"attempt {context.attempt}"
        assert context.attempt > 1
    else:
        assert (first, context.attempt, context.output) == (AttemptOutcome.COMPLETED, 1, "attempt 1")
