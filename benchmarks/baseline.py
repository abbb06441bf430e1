"""
A first baseline: requests through the API, and contexts through one worker, on this machine.

    python -m benchmarks.baseline

Everything runs in one process with an embedded MongoDB, on loopback; each figure is the median of the runs,
with the lowest and the highest.
"""

import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import httpx2

from agent_service import ClientWorker, RequestService, Store
from agent_service.api.app import create_app
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.local.mongod import start_mongod
from agent_service.local.servers import serve

RUNS = 3
REQUESTS = 1_000
CLIENTS = 16
CONTEXTS = 3_000
CONCURRENCY = 32
SUBMISSION = {"service": "noop", "input": {"text": "hello"}}


class NoopWorker(ClientWorker):
    """Does nothing, so that all that is measured is ours."""

    service: ClassVar[str] = "noop"

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Answer at once."""
        return BaseServiceAnswer(output={"text": "done"})


async def through_api(store: Store) -> float:
    """Acknowledged requests per second over HTTP, from several clients at once."""
    requests = RequestService(store, max_attempts={"noop": 5})
    left = iter(range(REQUESTS))
    async with serve(create_app(store, requests, max_body_bytes=1_048_576)) as server:
        limits = httpx2.Limits(max_connections=CLIENTS)
        async with httpx2.AsyncClient(base_url=server.base_url, limits=limits) as client:

            async def submit() -> None:
                for _ in left:
                    answer = await client.post("/v1/requests", json=SUBMISSION)
                    answer.raise_for_status()

            began = time.perf_counter()
            await asyncio.gather(*(submit() for _ in range(CLIENTS)))
            return REQUESTS / (time.perf_counter() - began)


async def through_worker(store: Store) -> float:
    """Contexts per second that one worker claims, does and settles, from a full queue to its end."""
    requests = RequestService(store, max_attempts={"noop": 5})
    left = iter(range(CONTEXTS))
    ids: list[str] = []

    async def submit() -> None:
        for _ in left:
            ids.append((await requests.submit(SUBMISSION)).request.id)

    await asyncio.gather(*(submit() for _ in range(CLIENTS)))
    worker = NoopWorker(store, concurrency=CONCURRENCY)
    began = time.perf_counter()
    await worker.start()
    open_ids = set(ids)
    while open_ids:
        request = await requests.get(next(iter(open_ids)))
        if request.request.status.ended:
            open_ids.discard(request.request.id)
        else:
            async for _ in requests.events(request.request.id):
                pass
    seconds = time.perf_counter() - began
    await worker.stop()
    return CONTEXTS / seconds


async def measure(uri: str, name: str, figure: Callable[[Store], Awaitable[float]]) -> dict[str, object]:
    """The figure on a fresh database, several times."""
    rates = []
    for run in range(RUNS):
        async with Store.connect(uri, database=f"{name}_{run}") as store:
            await store.prepare()
            rates.append(await figure(store))
            await store.drop()
    return {
        "figure": name,
        "median": round(statistics.median(rates)),
        "lowest": round(min(rates)),
        "highest": round(max(rates)),
        "unit": "per second",
        "runs": RUNS,
    }


async def main() -> None:
    """Print one JSON line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        server = await start_mongod(Path(folder))
        try:
            machine = {"python": platform.python_version(), "cores": os.cpu_count()}
            print(json.dumps(machine))
            print(json.dumps(await measure(server.uri, "requests_through_the_api", through_api)))
            print(json.dumps(await measure(server.uri, "contexts_through_one_worker", through_worker)))
        finally:
            await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
