"""Benchmark `fleet`: what idle processes cost a busy worker: of its own service, and of another one."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from functools import partial

from agent_service.local.child_process import ChildProcess
from benchmarks.noop_worker import SERVICE
from benchmarks.stage import Stage
from benchmarks.worker_process import Drained, drained, generation_worker, noop_worker, until_ready

BESIDE, QUICK_BESIDE = (4, 16, 64), (4,)
CONCURRENCY = 32
CONTEXTS, QUICK_CONTEXTS = 12_000, 4_000
#: A queue of the same service in which nothing ever waits.
_EMPTY_QUEUE = "night"
#: Seconds that idle processes have, once they go on, to be as idle as they were.
_CAUGHT_UP = 8

Start = Callable[[], AbstractAsyncContextManager[ChildProcess]]


async def measure(stage: Stage) -> None:
    """One busy worker alone, and then beside more and more idle processes."""
    async with stage.stub(0) as base_url:
        for kind in ("own", "another"):
            async with stage.fresh_store() as (_, database), AsyncExitStack() as stack:
                start: Start = partial(generation_worker, stage, database, base_url, 10)
                if kind == "own":
                    start = partial(noop_worker, stage, database, 10, queue=_EMPTY_QUEUE)
                await _measure_beside(stage, database, stack, start, f"of {kind} service")


async def _measure_beside(
    stage: Stage, database: str, stack: AsyncExitStack, start: Start, whose: str
) -> None:
    idle: list[ChildProcess] = []
    for number in QUICK_BESIDE if stage.quick else BESIDE:
        for _ in range(number - len(idle)):
            idle.append(await stack.enter_async_context(start()))
        await until_ready(stage, database, number)
        for _ in range(stage.runs):
            # Both within a minute: what else the machine does changes from one to the next.
            with _stopped(idle):
                alone = await _busy(stage, database, f"beside 0 {whose}")
            # They look at what they have missed.
            await asyncio.sleep(_CAUGHT_UP)
            beside = await _busy(stage, database, f"beside {number} {whose}")
            figure = f"fleet: beside {number} {whose} / beside none"
            stage.results.add(figure, "ratio", beside.rate / alone.rate)
            if beside.server_cpu and alone.server_cpu:
                figure = f"fleet: mongod beside {number} {whose} / beside none"
                stage.results.add(figure, "ratio", beside.server_cpu / alone.server_cpu)


@contextmanager
def _stopped(processes: Sequence[ChildProcess]) -> Iterator[None]:
    """These do nothing while the block runs; to end them and start them again would take far longer."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)


async def _busy(stage: Stage, database: str, beside: str) -> Drained:
    """How a worker does that has enough to do."""
    place = stage.client[database]
    await stage.fill(database, SERVICE, QUICK_CONTEXTS if stage.quick else CONTEXTS)
    async with noop_worker(stage, database, CONCURRENCY) as worker:
        found = await drained(stage, database, SERVICE, worker.pid)
    for name in ("contexts", "requests"):
        await place[name].delete_many({})
    stage.results.add(f"fleet: {beside}", "contexts/s", found.rate)
    stage.results.add_cpu(f"fleet: mongod {beside}", found.server_cpu)
    return found
