"""Benchmark `throughput`: contexts per second that are claimed, sent to a base service, and stored."""

from collections.abc import Mapping, Sequence

from benchmarks.peers import Peer, open_peers, raw_streams
from benchmarks.processes import run_to_end
from benchmarks.stage import Stage
from benchmarks.worker_process import GENERATION, Drained, drained, generation_worker

CONCURRENCY = 64
#: How long the base service takes, in milliseconds, and how many calls are made of it.
CALLS: Mapping[int, int] = {20: 6_000, 100: 2_500}
QUICK_CALLS: Mapping[int, int] = {20: 4_000, 100: 2_000}
#: Others are measured where the queue decides, not the waiting for the service.
COMPARED_AT = 20


async def measure(stage: Stage) -> None:
    """The bare client, the worker and the others in turns, against the same stub."""
    async with open_peers(stage) as peers:
        for delay, calls in (QUICK_CALLS if stage.quick else CALLS).items():
            async with stage.stub(delay) as base_url:
                for _ in range(stage.runs):
                    ours = await _measure_ours(stage, base_url, delay, calls)
                    if delay == COMPARED_AT:
                        await _measure_peers(stage, [*raw_streams(peers), *peers], base_url, calls, ours)


async def worker_against_bare(stage: Stage, base_url: str, calls: int) -> tuple[Drained, Mapping[str, float]]:
    """One worker process, and the pace of the bare client."""
    numbers = ["--calls", str(calls), "--concurrency", str(CONCURRENCY)]
    bare = await run_to_end("benchmarks.bare_client", [base_url, *numbers], log=stage.log("bare_client"))
    return await _worker(stage, base_url, calls), bare


async def _measure_ours(stage: Stage, base_url: str, delay: int, calls: int) -> float:
    about = f"throughput {delay} ms"
    ours, bare = await worker_against_bare(stage, base_url, calls)
    stage.results.add(f"{about}: bare client", "calls/s", bare["rate"])
    stage.results.add(f"{about}: worker", "contexts/s", ours.rate)
    stage.results.add(f"{about}: worker / bare client", "ratio", ours.rate / bare["rate"])
    stage.results.add_cpu(f"{about}: bare client", bare["cpu_ms"])
    stage.results.add_cpu(f"{about}: worker", ours.worker_cpu)
    stage.results.add_cpu(f"{about}: mongod", ours.server_cpu)
    return ours.rate


async def _measure_peers(stage: Stage, peers: Sequence[Peer], base_url: str, calls: int, ours: float) -> None:
    for peer in peers:
        pace = await peer.pace(stage, calls, CONCURRENCY, base_url)
        stage.results.add(f"throughput {COMPARED_AT} ms: {peer.name}", "calls/s", pace["rate"])
        stage.results.add(f"throughput {COMPARED_AT} ms: worker / {peer.name}", "ratio", ours / pace["rate"])
        stage.results.add_cpu(f"throughput {COMPARED_AT} ms: {peer.name}", pace["cpu_ms"])


async def _worker(stage: Stage, base_url: str, contexts: int) -> Drained:
    async with stage.fresh_store() as (_, database):
        await stage.fill(database, GENERATION, contexts)
        async with generation_worker(stage, database, base_url, CONCURRENCY) as worker:
            return await drained(stage, database, GENERATION, worker.pid)
