"""Benchmark `memory`: what a worker holds: idle, with all slots busy, after many contexts, long outputs."""

import asyncio

from benchmarks.processes import resident_megabytes
from benchmarks.stage import Stage
from benchmarks.worker_process import GENERATION, drained, generation_worker, until_ready

CONCURRENCY = 64
CONTEXTS, QUICK_CONTEXTS = 100_000, 10_000
#: Milliseconds for which calls last while the slots are looked at; and how long, in seconds, that is watched.
_SLOW, _WATCHED = 1_000, 3.0
_QUIET = 3.0
#: At once in the database, so that filling it is not what takes long.
_AT_ONCE = 20_000
LONG_CONTEXTS, QUICK_LONG_CONTEXTS = 3_000, 1_000
LONG_OUTPUT = 190_000


async def measure(stage: Stage) -> None:
    """One worker that is idle and then busy, one that does many contexts, and one with long outputs."""
    await _idle_and_busy(stage)
    await _after_many(stage)
    await _with_long_outputs(stage)


async def _idle_and_busy(stage: Stage) -> None:
    async with (
        stage.fresh_store() as (_, database),
        stage.stub(_SLOW) as base_url,
        generation_worker(stage, database, base_url, CONCURRENCY) as worker,
    ):
        await until_ready(stage, database, 1)
        await asyncio.sleep(_QUIET)
        stage.results.add("memory: worker, idle", "MB", resident_megabytes(worker.pid))
        await stage.fill(database, GENERATION, int(CONCURRENCY * (_WATCHED + 2) / _SLOW * 1_000))
        await asyncio.sleep(_WATCHED)
        stage.results.add("memory: worker, 64 in flight", "MB", resident_megabytes(worker.pid))


async def _after_many(stage: Stage) -> None:
    async with (
        stage.fresh_store() as (_, database),
        stage.stub(0) as base_url,
        generation_worker(stage, database, base_url, CONCURRENCY) as worker,
    ):
        left = QUICK_CONTEXTS if stage.quick else CONTEXTS
        done = f"memory: worker, after {left:,} contexts"
        while left:
            await stage.fill(database, GENERATION, min(left, _AT_ONCE))
            left -= min(left, _AT_ONCE)
            await drained(stage, database, GENERATION, worker.pid)
        await asyncio.sleep(_QUIET)
        stage.results.add(done, "MB", resident_megabytes(worker.pid))


async def _with_long_outputs(stage: Stage) -> None:
    async with (
        stage.fresh_store() as (_, database),
        stage.stub(0, text_bytes=LONG_OUTPUT) as base_url,
        generation_worker(stage, database, base_url, CONCURRENCY) as worker,
    ):
        contexts = QUICK_LONG_CONTEXTS if stage.quick else LONG_CONTEXTS
        await stage.fill(database, GENERATION, contexts)
        await drained(stage, database, GENERATION, worker.pid)
        most = resident_megabytes(worker.pid, peak=True)
        stage.results.add(f"memory: worker, {LONG_OUTPUT // 1_000} kB outputs, most", "MB", most)
