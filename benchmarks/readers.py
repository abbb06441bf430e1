"""Benchmark `readers`: many readers of event streams at one API process, and how late they get output."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from agent_service.local.child_process import ChildProcess
from agent_service.request_service import RequestService
from agent_service.store.notifier.capped_collection import EVENTS
from benchmarks.api_process import api_process
from benchmarks.backlog import submission
from benchmarks.processes import ProcessFailed, cpu_seconds, resident_megabytes, running
from benchmarks.stage import Stage
from benchmarks.worker_process import GENERATION, generation_worker

_LIMIT_SECONDS = 240
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`readers` of `requests`, as many of each, whose steps stream a piece every so many milliseconds."""

    name: str
    readers: int
    requests: int
    every_ms: int
    pieces: int

    @property
    def pieces_read(self) -> int:
        """How many pieces all readers get together."""
        return self.readers * self.pieces


LOADS = (
    Load(name="500 of one request", readers=500, requests=1, every_ms=50, pieces=200),
    Load(name="500 of 50 requests", readers=500, requests=50, every_ms=500, pieces=20),
)
QUICK_LOADS = (Load(name="50 of 5 requests", readers=50, requests=5, every_ms=50, pieces=40),)


async def measure(stage: Stage) -> None:
    """All of one request, which is what hits one place; then of several."""
    for load in QUICK_LOADS if stage.quick else LOADS:
        for _ in range(stage.few_runs):
            await _measure(stage, load)


async def _measure(stage: Stage, load: Load) -> None:
    async with AsyncExitStack() as stack:
        store, database = await stack.enter_async_context(stage.fresh_store())
        address, api = await stack.enter_async_context(api_process(stage, database))
        requests = RequestService(store, max_attempts={GENERATION: 5})
        ids = [(await requests.submit(submission(GENERATION))).request.id for _ in range(load.requests)]
        before = resident_megabytes(api)
        arguments = [str(urlsplit(address).port), str(load.readers), *ids]
        readers, _ = await stack.enter_async_context(
            running("benchmarks.reader_process", arguments, log=stage.log("readers"), ready="reading")
        )
        figure = f"readers: {load.name}"
        results = stage.results
        waiting = resident_megabytes(api)
        results.add(f"{figure}: memory of each, waiting", "kB", (waiting - before) * 1_000 / load.readers)
        # Nobody else runs yet, so all of them are the API's.
        results.add(f"{figure}: cursors", "", await open_cursors(stage))
        began, cpu = monotonic(), cpu_seconds(api)
        await _stream(stage, stack, database, load)
        said = await _result(readers)
        cpu, seconds = cpu_seconds(api) - cpu, monotonic() - began
        if (said["whole"], said["pieces"]) != (load.readers, load.pieces_read):
            raise ProcessFailed(f"not every reader got everything: {said}")
        results.add(f"{figure}: refused at first", "", said["refused"])
        streaming = resident_megabytes(api)
        results.add(
            f"{figure}: memory of each, at the end", "kB", (streaming - before) * 1_000 / load.readers
        )
        for share in ("p50", "p99"):
            results.add(f"{figure}: sent to seen, {share}", "ms", said[share] * 1_000)
        results.add(f"{figure}: processor time of the API", "ms per s", cpu / seconds * 1_000)
        results.add(f"{figure}: processor time per event", "µs", cpu / load.pieces_read * 1_000_000)


async def _stream(stage: Stage, stack: AsyncExitStack, database: str, load: Load) -> None:
    """Let a worker begin on all requests at once."""
    arguments = ["--pieces", str(load.pieces), "--every-ms", str(load.every_ms)]
    ready, log = r"listening on (\d+)", stage.log("streaming")
    _, found = await stack.enter_async_context(
        running("benchmarks.streaming_service", arguments, log=log, ready=ready)
    )
    base_url = f"http://127.0.0.1:{found[1]}"
    await stack.enter_async_context(generation_worker(stage, database, base_url, load.requests))


async def _result(readers: ChildProcess) -> dict[str, float]:
    """What the readers printed at their end."""
    deadline = monotonic() + _LIMIT_SECONDS
    while (found := re.search(r"(?m)^\{.*\}$", readers.output())) is None:
        if readers.exit_code is not None or monotonic() > deadline:
            raise ProcessFailed(f"the readers did not come to an end: {readers.output()[-2_000:]}")
        await asyncio.sleep(_LOOK_SECONDS)
    said: dict[str, float] = json.loads(found[0])
    return said


async def open_cursors(stage: Stage) -> int:
    """How many cursors on the server wait for what readers are told of, idle ones included."""
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleCursors": True}},
        {"$match": {"cursor.tailable": True, "cursor.originatingCommand.find": EVENTS}},
    ]
    found = await (await stage.client.admin.aggregate(stages)).to_list(None)
    return len({operation["cursor"]["cursorId"] for operation in found})
