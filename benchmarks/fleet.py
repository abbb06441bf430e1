"""Benchmark `fleet`: what idle processes cost a busy worker: of its own service, and of another one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from statistics import median

from agent_service.local.child_process import ChildProcess
from benchmarks.noop_worker import SERVICE
from benchmarks.stage import Stage
from benchmarks.worker_process import Drained, drained, generation_worker, noop_worker, until_ready

BESIDE, QUICK_BESIDE = (4, 16, 64), (4,)
CONCURRENCY = 32
CONTEXTS, QUICK_CONTEXTS = 12_000, 4_000
#: A queue of the same service in which nothing ever waits.
_EMPTY_QUEUE = "night"

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
    alone = await _busy(stage, database, f"beside 0 {whose}")
    there = 0
    for number in QUICK_BESIDE if stage.quick else BESIDE:
        for _ in range(number - there):
            await stack.enter_async_context(start())
        there = number
        await until_ready(stage, database, number)
        found = await _busy(stage, database, f"beside {number} {whose}")
        figure = f"fleet: beside {number} {whose} / beside none"
        stage.results.add(figure, "ratio", _rate(found) / _rate(alone))
        figure = f"fleet: mongod beside {number} {whose} / beside none"
        stage.results.add(figure, "ratio", _server_cpu(found) / _server_cpu(alone))


async def _busy(stage: Stage, database: str, beside: str) -> list[Drained]:
    """How a worker did that had enough to do, in each run."""
    found: list[Drained] = []
    place = stage.client[database]
    for _ in range(stage.runs):
        await stage.fill(database, SERVICE, QUICK_CONTEXTS if stage.quick else CONTEXTS)
        async with noop_worker(stage, database, CONCURRENCY) as worker:
            found.append(await drained(stage, database, SERVICE, worker.pid))
        for name in ("contexts", "requests"):
            await place[name].delete_many({})
        stage.results.add(f"fleet: {beside}", "contexts/s", found[-1].rate)
        stage.results.add_cpu(f"fleet: mongod {beside}", found[-1].server_cpu)
    return found


def _rate(found: list[Drained]) -> float:
    return median(each.rate for each in found)


def _server_cpu(found: list[Drained]) -> float:
    return median(each.server_cpu or 0 for each in found) or float("nan")
