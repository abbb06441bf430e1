"""Benchmark `latency`: from a submission to the call and to the result, from a cancel to the call's end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from agent_service.client import AgentClient
from agent_service.local.child_process import ChildProcess
from agent_service.request_service import RequestService
from agent_service.store import Store
from benchmarks.api_process import running_api
from benchmarks.backlog import submission
from benchmarks.figures import percentile
from benchmarks.stage import Stage
from benchmarks.stub_record import StubRecord, read_record
from benchmarks.worker_process import GENERATION, drained, generation_worker, until_ready

SUBMISSION = submission(GENERATION)
PER_SECOND = 20
REQUESTS, QUICK_REQUESTS = 120, 40
CANCELS, QUICK_CANCELS = 30, 20
#: A minute after it, submissions are measured again.
BURST, QUICK_BURST = 100_000, 1_000
AFTER_BURST_SECONDS, QUICK_AFTER_BURST_SECONDS = 60, 1
CONCURRENCY = 64
#: Calls that are to be cancelled last so long, in milliseconds.
_ENDLESS = 120_000
_SHARES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
#: The first requests open connections.
_WARM_UP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to submit and to wait: `submit` returns the id, `wait` returns when the result was seen."""

    submit: Callable[[], Awaitable[str]]
    wait: Callable[[str], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Times:
    """Request id → monotonic seconds."""

    sent: dict[str, float]
    acknowledged: dict[str, float]
    seen: dict[str, float]


async def measure(stage: Stage) -> None:
    """On an idle system, through the HTTP API and in process; cancelling; and a minute after a burst."""
    async with (
        stage.fresh_store() as (store, database),
        stage.stub(0, record=True) as base_url,
        _worker(stage, database, base_url),
        read_record(base_url) as record,
    ):
        async with _through_api(stage, database) as way:
            await _measure_way(stage, way, record, "latency")
        await _measure_way(stage, _in_process(store), record, "latency in process")
    async with (
        stage.fresh_store() as (store, database),
        stage.stub(_ENDLESS, record=True) as base_url,
        _worker(stage, database, base_url),
        read_record(base_url) as record,
    ):
        for _ in range(stage.runs):
            await _measure_cancelling(stage, store, record)
    async with stage.default_history():
        await _measure_after_burst(stage)


async def _measure_way(stage: Stage, way: Way, record: StubRecord, about: str) -> None:
    await _submit_steadily(way, _WARM_UP)
    for _ in range(stage.runs):
        times = await _submit_steadily(way, QUICK_REQUESTS if stage.quick else REQUESTS)
        await record.wait_for_calls(times.acknowledged)
        called = [record.received[each] - at for each, at in times.acknowledged.items()]
        seen = [times.seen[each] - at for each, at in times.acknowledged.items()]
        _add(stage, f"{about}: acknowledged to call received", called)
        _add(stage, f"{about}: acknowledged to result seen", seen)
        # The call may come before the answer to whoever submitted.
        whole = [record.received[each] - at for each, at in times.sent.items()]
        _add(stage, f"{about}: sent to call received", whole)


async def _measure_after_burst(stage: Stage) -> None:
    burst = QUICK_BURST if stage.quick else BURST
    async with stage.fresh_store() as (store, database), stage.stub(0, record=True) as base_url:
        await stage.fill(database, GENERATION, burst)
        async with _worker(stage, database, base_url) as worker:
            await drained(stage, database, GENERATION, worker.pid)
            await asyncio.sleep(QUICK_AFTER_BURST_SECONDS if stage.quick else AFTER_BURST_SECONDS)
            async with read_record(base_url) as record, _through_api(stage, database) as way:
                await _measure_way(stage, way, record, "latency after a burst")
                await _measure_way(stage, _in_process(store), record, "latency after a burst, in process")


async def _submit_steadily(way: Way, number: int) -> Times:
    times = Times(sent={}, acknowledged={}, seen={})
    began = monotonic()

    async def one(index: int) -> None:
        await asyncio.sleep(began + index / PER_SECOND - monotonic())
        sent = monotonic()
        request_id = await way.submit()
        times.sent[request_id] = sent
        times.acknowledged[request_id] = monotonic()
        await way.wait(request_id)
        times.seen[request_id] = monotonic()

    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(one(index))
    return times


async def _measure_cancelling(stage: Stage, store: Store, record: StubRecord) -> None:
    requests = RequestService(store, max_attempts={GENERATION: 5})
    number = QUICK_CANCELS if stage.quick else CANCELS
    ids = [(await requests.submit(SUBMISSION)).request.id for _ in range(number)]
    await record.wait_for_calls(ids)
    asked, answered = dict[str, float](), dict[str, float]()
    for request_id in ids:
        asked[request_id] = monotonic()
        await requests.cancel(request_id)
        answered[request_id] = monotonic()
        await asyncio.sleep(1 / PER_SECOND)
    await record.wait_for_closed(ids)
    # A call may end before whoever cancelled it has the answer.
    for what, times in (("asked", asked), ("answered", answered)):
        delays = [record.closed[each] - at for each, at in times.items()]
        _add(stage, f"latency: cancel {what} to call stopped", delays)


def _add(stage: Stage, about: str, seconds: list[float]) -> None:
    for name, share in _SHARES:
        stage.results.add(f"{about}, {name}", "ms", percentile(seconds, share) * 1_000)


@asynccontextmanager
async def _worker(stage: Stage, database: str, base_url: str) -> AsyncIterator[ChildProcess]:
    async with generation_worker(stage, database, base_url, CONCURRENCY) as worker:
        await until_ready(stage, database, 1)
        yield worker


@asynccontextmanager
async def _through_api(stage: Stage, database: str) -> AsyncIterator[Way]:
    async with running_api(stage, database) as address, AgentClient(address) as client:

        async def submit() -> str:
            return (await client.submit(SUBMISSION)).id

        async def wait(request_id: str) -> None:
            async for _ in client.stream(request_id):
                continue

        yield Way(submit=submit, wait=wait)


def _in_process(store: Store) -> Way:
    requests = RequestService(store, max_attempts={GENERATION: 5})

    async def submit() -> str:
        return (await requests.submit(SUBMISSION)).request.id

    async def wait(request_id: str) -> None:
        async for _ in requests.events(request_id):
            continue

    return Way(submit=submit, wait=wait)
