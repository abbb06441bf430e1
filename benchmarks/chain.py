"""Benchmark `chain`: requests of three steps that wait for each other, and a handler that does nothing."""

import time

from agent_service.domain.json_value import JsonObject
from agent_service.request_service import RequestService
from benchmarks.figures import percentile
from benchmarks.noop_worker import SERVICE
from benchmarks.stage import Stage
from benchmarks.worker_process import drained, noop_worker, until_ready

CONCURRENCY = 32
REQUESTS, QUICK_REQUESTS = 1_000, 300
LONE, QUICK_LONE = 60, 20
_MAX_ATTEMPTS = 5


async def measure(stage: Stage) -> None:
    """How many requests end in a second, and how long one takes that is alone."""
    for _ in range(stage.runs):
        await _measure_alone(stage)
        await _measure_many(stage)


async def _measure_alone(stage: Stage) -> None:
    async with stage.fresh_store() as (store, database), noop_worker(stage, database, CONCURRENCY):
        await until_ready(stage, database, 1)
        requests = RequestService(store, max_attempts={SERVICE: _MAX_ATTEMPTS})
        seconds = [await _one(requests) for _ in range(QUICK_LONE if stage.quick else LONE)]
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            about = f"chain: a lone request from submission to end, {name}"
            stage.results.add(about, "ms", percentile(seconds, share) * 1_000)


async def _measure_many(stage: Stage) -> None:
    async with stage.fresh_store() as (store, database):
        requests = RequestService(store, max_attempts={SERVICE: _MAX_ATTEMPTS})
        await requests.submit_many([_CHAIN] * (QUICK_REQUESTS if stage.quick else REQUESTS))
        async with noop_worker(stage, database, CONCURRENCY) as worker:
            found = await drained(stage, database, SERVICE, worker.pid)
        stage.results.add("chain: requests of three steps", "requests/s", found.rate)


async def _one(requests: RequestService) -> float:
    """Seconds from the submission to the end."""
    began = time.perf_counter()
    accepted = await requests.submit(_CHAIN)
    async for _ in requests.events(accepted.request.id):
        continue
    return time.perf_counter() - began


_CHAIN: JsonObject = {
    "steps": [
        {"name": name, "service": SERVICE, "input": {"text": "a short text"}, "after": after}
        for name, after in (("one", []), ("two", ["one"]), ("three", ["two"]))
    ]
}
