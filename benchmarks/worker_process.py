"""Worker processes: the workers that are measured, each a process, and how fast they empty a backlog."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic

from agent_service.local.child_process import ChildProcess
from benchmarks.figures import steady_rate
from benchmarks.noop_worker import SERVICE as NOOP
from benchmarks.processes import cpu_seconds, running
from benchmarks.stage import Stage

GENERATION = "generation"
_LOOK_SECONDS = 0.25
_READY_LIMIT = timedelta(seconds=60)
_DRAIN_LIMIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """
    How a backlog was worked off.

    `rate` is in contexts per second, the requests' ends included; the others are milliseconds of processor
    time for each context, None where it went too quickly to tell.
    """

    rate: float
    worker_cpu: float | None
    server_cpu: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSample:
    """How many contexts waited, and the processor time, in seconds, that had been used by then."""

    pending: int
    workers: float
    server: float


@asynccontextmanager
async def generation_worker(
    stage: Stage, database: str, base_url: str, concurrency: int, *, profile: Path | None = None
) -> AsyncIterator[ChildProcess]:
    """`agent-service worker generation`, as an operator runs it; with a profile in a file when it stops."""
    variables = {
        **_variables(stage, database),
        "GENERATION_BASE_URL": base_url,
        "GENERATION_CONCURRENCY": str(concurrency),
    }
    log = stage.log("worker")
    module, arguments = "agent_service", ["worker", GENERATION]
    if profile is not None:
        module, arguments = "benchmarks.worker_profile", [str(profile), GENERATION]
    async with running(module, arguments, log=log, variables=variables) as (child, _):
        yield child


@asynccontextmanager
async def noop_worker(
    stage: Stage, database: str, concurrency: int, *, queue: str = "default", record: Path | None = None
) -> AsyncIterator[ChildProcess]:
    """A worker whose handler returns at once; with a file, its claims are recorded in it when it stops."""
    variables = _variables(stage, database)
    arguments = ["--concurrency", str(concurrency), "--queue", queue]
    if record is not None:
        arguments += ["--record", str(record)]
    log = stage.log("noop")
    async with running("benchmarks.noop_worker", arguments, log=log, variables=variables) as (child, _):
        yield child


def _variables(stage: Stage, database: str) -> dict[str, str]:
    return {
        "MONGODB_URI": stage.uri,
        "MONGODB_DATABASE": database,
        "SERVICES": NOOP,
        # At INFO every attempt writes a line, as nothing does that we are compared with.
        "LOG_LEVEL": "WARNING",
    }


async def until_ready(stage: Stage, database: str, workers: int) -> None:
    """Wait until so many workers have given a sign of life."""
    deadline = monotonic() + _READY_LIMIT.total_seconds()
    while await stage.client[database]["workers"].count_documents({}) < workers:
        if monotonic() > deadline:
            raise RuntimeError(f"{workers} workers were not ready in {_READY_LIMIT}")
        await asyncio.sleep(0.05)


async def drained(stage: Stage, database: str, service: str, *pids: int) -> Drained:
    """
    How the backlog of a service was worked off, by the workers `pids`, once it is.

    Raises RuntimeError if a request did not complete, or if it takes too long.
    """
    place = stage.client[database]
    deadline = monotonic() + _DRAIN_LIMIT.total_seconds()
    waiting = {"service": service, "queue": "default", "status": "pending"}
    samples: list[CpuSample] = []
    while pending := await place["contexts"].count_documents(waiting):
        workers = sum(cpu_seconds(pid) for pid in pids)
        samples.append(CpuSample(pending=pending, workers=workers, server=cpu_seconds(stage.server_pid)))
        if monotonic() > deadline:
            raise RuntimeError(f"{pending} contexts of {service} still waited after {_DRAIN_LIMIT}")
        await asyncio.sleep(_LOOK_SECONDS)
    while await place["requests"].find_one({"status": {"$in": ["accepted", "running"]}}, {"_id": 1}):
        if monotonic() > deadline:
            raise RuntimeError(f"requests of {service} still ran after {_DRAIN_LIMIT}")
        await asyncio.sleep(_LOOK_SECONDS)
    ends: list[datetime] = []
    async for request in place["requests"].find({}, {"status": 1, "finished_at": 1}):
        if request["status"] != "completed":
            raise RuntimeError(f"a request of the backlog ended as {request['status']}")
        ends.append(request["finished_at"])
    worker_cpu, server_cpu = cpu_milliseconds(samples)
    rate = steady_rate([end.timestamp() for end in ends])
    return Drained(rate=rate, worker_cpu=worker_cpu, server_cpu=server_cpu)


def cpu_milliseconds(samples: Sequence[CpuSample]) -> tuple[float, float] | tuple[None, None]:
    """What a context cost the workers and the server between the first look at them and the last."""
    # Until the first claim the workers were starting.
    usual = [sample for sample in samples if sample.pending < samples[0].pending]
    if len(usual) < 2:
        return None, None
    first, last = usual[0], usual[-1]
    done = first.pending - last.pending
    if not done:
        return None, None
    return (last.workers - first.workers) / done * 1_000, (last.server - first.server) / done * 1_000
