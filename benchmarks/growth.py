"""Benchmark `growth`: contexts per second with more worker processes, and where the processor time goes."""

from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.stage import Stage
from benchmarks.worker_process import GENERATION, Drained, drained, generation_worker
from benchmarks.worker_profile import read_shares

PROCESSES = (1, 2, 4)
CONCURRENCY = 64
#: A service slow enough for one process to leave the machine something to do.
DELAY_MS = 100
#: Of the profile, what is less is left out.
SMALLEST_SHARE = 0.03
CONTEXTS, QUICK_CONTEXTS = 2_000, 1_500


async def measure(stage: Stage) -> None:
    """As many contexts for each process, so that all runs take about as long; then one under a profiler."""
    async with stage.stub(DELAY_MS) as base_url:
        for _ in range(stage.runs):
            alone = None
            for number in PROCESSES:
                found = await _run(stage, base_url, number)
                about = f"growth: {number} {'process' if number == 1 else 'processes'}"
                stage.results.add(about, "contexts/s", found.rate)
                for who, cpu in (("workers", found.worker_cpu), ("mongod", found.server_cpu)):
                    if cpu is not None:
                        stage.results.add(f"{about}, {who}", "cores", cpu * found.rate / 1_000)
                if alone is None:
                    alone = found.rate
                else:
                    stage.results.add(f"{about} / 1 process", "ratio", found.rate / alone)
        file = stage.folder / "worker.prof"
        await _run(stage, base_url, 1, profile=file)
        for part, share in read_shares(file).items():
            if share >= SMALLEST_SHARE:
                stage.results.add(f"growth: the worker's processor time, {part}", "%", share * 100)


async def _run(stage: Stage, base_url: str, number: int, *, profile: Path | None = None) -> Drained:
    contexts = (QUICK_CONTEXTS if stage.quick else CONTEXTS) * number
    async with AsyncExitStack() as stack:
        _, database = await stack.enter_async_context(stage.fresh_store())
        await stage.fill(database, GENERATION, contexts)
        workers = [
            await stack.enter_async_context(
                generation_worker(stage, database, base_url, CONCURRENCY, profile=profile)
            )
            for _ in range(number)
        ]
        return await drained(stage, database, GENERATION, *(worker.pid for worker in workers))
