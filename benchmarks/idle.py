"""Benchmark `idle`: what workers cost that have nothing to do, and what one insert makes them do."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from time import monotonic

from agent_service.request_service import RequestService
from agent_service.store import Store
from benchmarks.backlog import submission
from benchmarks.noop_worker import SERVICE
from benchmarks.processes import cpu_seconds
from benchmarks.server_status import hellos, read_status
from benchmarks.stage import Stage
from benchmarks.worker_process import generation_worker, noop_worker, until_ready

WORKERS = 10
#: In seconds; a worker does some things every 15 s.
WINDOW = 15.0
#: After the start, so that what it costs has passed.
_QUIET = 5.0
INSERTING_BESIDE = 8
_PROFILE_BYTES = 128 * 1024 * 1024
INSERTS, QUICK_INSERTS = 25, 20
_BETWEEN_INSERTS = 0.3


async def measure(stage: Stage) -> None:
    """Ten idle workers, then eight beside single inserts."""
    await _measure_silence(stage)
    await _measure_inserts(stage)


async def _measure_silence(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        _, database = await stack.enter_async_context(stage.fresh_store())
        base_url = await stack.enter_async_context(stage.stub(0))
        workers = [
            await stack.enter_async_context(generation_worker(stage, database, base_url, 10))
            for _ in range(WORKERS)
        ]
        await until_ready(stage, database, WORKERS)
        await asyncio.sleep(_QUIET)
        for _ in range(stage.few_runs):
            before, cpu = await read_status(stage.client), sum(cpu_seconds(each.pid) for each in workers)
            began = monotonic()
            await asyncio.sleep(WINDOW)
            after = await read_status(stage.client)
            shares = (monotonic() - began) * WORKERS
            commands = after.commands_since(before)
            total, keeping_touch = sum(commands.values()), hellos(commands)
            cpu = sum(cpu_seconds(each.pid) for each in workers) - cpu
            results = stage.results
            results.add("idle: commands per worker process", "per s", (total - keeping_touch) / shares)
            results.add("idle: hello per worker process", "per s", keeping_touch / shares)
            results.add("idle: processor time per worker process", "ms per s", cpu / shares * 1_000)


async def _measure_inserts(stage: Stage) -> None:
    """The profiler of the server tells who looked for work; everything there is counted besides."""
    async with AsyncExitStack() as stack:
        store, database = await stack.enter_async_context(stage.fresh_store())
        for _ in range(INSERTING_BESIDE):
            await stack.enter_async_context(noop_worker(stage, database, 10))
        await until_ready(stage, database, INSERTING_BESIDE)
        await asyncio.sleep(_QUIET)
        place = stage.client[database]
        # The usual one holds so little that the first entries would be gone before the last are counted.
        await place.create_collection("system.profile", capped=True, size=_PROFILE_BYTES)
        await place.command({"profile": 2})
        for _ in range(stage.few_runs):
            inserts = QUICK_INSERTS if stage.quick else INSERTS
            seconds = inserts * _BETWEEN_INSERTS
            # The same time without inserts, so that the polls can be taken off.
            idle_looks, idle_commands = await _looks_and_commands(stage, database, asyncio.sleep(seconds))
            looks, commands = await _looks_and_commands(stage, database, _insert(store, inserts))
            figure = "idle: queries per single insert, 8 processes"
            stage.results.add(figure, "per insert", max(looks - idle_looks, 0) / inserts)
            figure = "idle: commands per single request, 8 processes"
            stage.results.add(figure, "per request", (commands - idle_commands) / inserts)
        await place.command({"profile": 0})


async def _insert(store: Store, number: int) -> None:
    """Requests, one at a time, each done before the next."""
    requests = RequestService(store, max_attempts={SERVICE: 5})
    for _ in range(number):
        request = (await requests.submit(submission(SERVICE))).request
        began = monotonic()
        async for _ in requests.events(request.id):
            continue
        await asyncio.sleep(_BETWEEN_INSERTS - (monotonic() - began))


async def _looks_and_commands(stage: Stage, database: str, work: Awaitable[None]) -> tuple[int, int]:
    """How often somebody looked for work while `work` was done, and how many commands there were in all."""
    profile = stage.client[database]["system.profile"]
    looks_before, before = await profile.count_documents(_LOOKS), await read_status(stage.client)
    await work
    commands = (await read_status(stage.client)).commands_since(before)
    total = sum(commands.values()) - hellos(commands)
    return await profile.count_documents(_LOOKS) - looks_before, total


#: A look for work asks for what is pending: to claim it, or to see whether there is any.
_LOOKS = {
    "$or": [
        {"command.find": "contexts", "command.filter.status": "pending"},
        {"command.findAndModify": "contexts", "command.query.status": "pending"},
        {"op": "update", "command.q.status": "pending"},
        {"command.aggregate": "contexts", "command.pipeline.0.$match.status": "pending"},
    ]
}
