"""Benchmark `memory`: what a worker holds idle, with all slots busy, and after many contexts."""

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


async def measure(stage: Stage) -> None:
    """One worker that is idle and then busy, and one that does many contexts."""
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
