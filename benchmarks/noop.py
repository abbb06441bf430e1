"""Benchmark `noop`: contexts per second where the handler does nothing, one process, 32 at a time."""

from benchmarks.noop_worker import SERVICE
from benchmarks.peers import open_peers
from benchmarks.server_status import read_status
from benchmarks.stage import Stage
from benchmarks.worker_process import Drained, drained, noop_worker

CONCURRENCY = 32
CONTEXTS, QUICK_CONTEXTS = 12_000, 8_000


async def measure(stage: Stage) -> None:
    """Our worker, and in turns with it the other queues."""
    contexts = QUICK_CONTEXTS if stage.quick else CONTEXTS
    async with open_peers(stage) as peers:
        for _ in range(stage.runs):
            ours = await _worker(stage, contexts)
            stage.results.add("noop: worker", "contexts/s", ours.rate)
            stage.results.add_cpu("noop: worker", ours.worker_cpu)
            stage.results.add_cpu("noop: mongod", ours.server_cpu)
            for peer in peers:
                pace = await peer.pace(stage, contexts, CONCURRENCY)
                stage.results.add(f"noop: {peer.name}", "jobs/s", pace["rate"])
                stage.results.add(f"noop: worker / {peer.name}", "ratio", ours.rate / pace["rate"])
                stage.results.add_cpu(f"noop: {peer.name}", pace["cpu_ms"])


async def _worker(stage: Stage, contexts: int) -> Drained:
    async with stage.fresh_store() as (_, database):
        await stage.fill(database, SERVICE, contexts)
        async with noop_worker(stage, database, CONCURRENCY) as worker:
            before = await read_status(stage.client)
            found = await drained(stage, database, SERVICE, worker.pid)
            commands = (await read_status(stage.client)).commands_since(before)
            stage.results.add("noop: commands", "per context", sum(commands.values()) / contexts)
            return found
