"""Benchmark `ingest`: acknowledged requests per second, over HTTP and in process, singly and in batches."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson

from agent_service.domain.errors import AgentServiceError
from agent_service.request_service import RequestService
from benchmarks.api_process import running_api
from benchmarks.backlog import submission
from benchmarks.stage import Stage
from benchmarks.worker_process import GENERATION

SUBMISSION = submission(GENERATION)
CLIENTS = (1, 16, 64)
#: Requests in one batch, and how many clients send batches at a time.
BATCH, BATCH_CLIENTS = 1_000, 2
#: For how long one figure is measured, in seconds.
SECONDS, QUICK_SECONDS = 1.0, 0.7

#: Submits once and returns how many requests that were.
Submit = Callable[[], Awaitable[int]]


async def measure(stage: Stage) -> None:
    """Each way in turns."""
    async with stage.fresh_store() as (store, database), running_api(stage, database) as address:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            single = _single_over_http(session, address)
            batch = _batch_over_http(session, address)
            requests = RequestService(store, max_attempts={GENERATION: 5})
            for _ in range(stage.few_runs):
                for clients in CLIENTS:
                    await _add(stage, f"ingest: HTTP, {_clients(clients)}", single, clients)
                await _add(stage, f"ingest: HTTP, batches of {BATCH:,}", batch, BATCH_CLIENTS)
                for clients in CLIENTS:
                    about = f"ingest: in process, {_clients(clients)}"
                    await _add(stage, about, _single_in_process(requests), clients)
                about = f"ingest: in process, batches of {BATCH:,}"
                await _add(stage, about, _batch_in_process(requests), BATCH_CLIENTS)


def _clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"


async def _add(stage: Stage, about: str, submit: Submit, clients: int) -> None:
    began = time.perf_counter()
    until = began + (QUICK_SECONDS if stage.quick else SECONDS)

    async def client() -> int:
        taken = 0
        while time.perf_counter() < until:
            taken += await submit()
        return taken

    taken = sum(await asyncio.gather(*(client() for _ in range(clients))))
    stage.results.add(about, "requests/s", taken / (time.perf_counter() - began))


def _single_over_http(session: aiohttp.ClientSession, address: str) -> Submit:
    body = orjson.dumps(SUBMISSION)

    async def submit() -> int:
        await _post(session, f"{address}/v1/requests", body)
        return 1

    return submit


def _batch_over_http(session: aiohttp.ClientSession, address: str) -> Submit:
    body = orjson.dumps({"requests": [SUBMISSION] * BATCH})

    async def submit() -> int:
        answer = orjson.loads(await _post(session, f"{address}/v1/requests:batch", body))
        return sum("id" in result for result in answer["results"])

    return submit


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> bytes:
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
        content = await answer.read()
        if answer.status != 202:
            raise RuntimeError(f"{url} answered {answer.status}: {content[:300]!r}")
        return content


def _single_in_process(requests: RequestService) -> Submit:
    async def submit() -> int:
        await requests.submit(SUBMISSION)
        return 1

    return submit


def _batch_in_process(requests: RequestService) -> Submit:
    async def submit() -> int:
        answers = await requests.submit_many([SUBMISSION] * BATCH)
        return sum(not isinstance(answer, AgentServiceError) for answer in answers)

    return submit
