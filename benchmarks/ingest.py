"""
Benchmark `ingest`: acknowledged requests per second, over HTTP and in process, singly and in batches.

Beside it the floor: the same documents, inserted by the bare driver into the same collections.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson

from agent_service.domain.errors import AgentServiceError
from agent_service.request_service import RequestService
from benchmarks.api_process import running_api
from benchmarks.backlog import submission
from benchmarks.insert_floor import inserting
from benchmarks.stage import Stage
from benchmarks.worker_process import GENERATION

SUBMISSION = submission(GENERATION)
CLIENTS = (1, 16, 64)
#: Requests in one batch, and how many clients send batches at a time.
BATCH, BATCH_CLIENTS = 1_000, 2
#: Requests that the bare driver inserts at most; more than it can while one figure is measured, if singly.
FLOOR = 20_000
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
            for _ in range(stage.runs):
                for clients in CLIENTS:
                    await _add(stage, f"ingest: HTTP, {_clients(clients)}", single, clients)
                await _add(stage, f"ingest: HTTP, batches of {BATCH:,}", batch, BATCH_CLIENTS)
                for clients in CLIENTS[1:]:
                    about = f"ingest: in process, {_clients(clients)}"
                    await _add(stage, about, _single_in_process(requests), clients)
                about = f"ingest: in process, {_clients(1)}"
                lone = await _add(stage, about, _single_in_process(requests), 1)
                floor = await _add_floor(stage, database, "1 client", batch=1, clients=1)
                stage.results.add("ingest: one lone submission / floor", "ratio", lone / floor)
                about = f"batches of {BATCH:,}"
                bulk = await _add(
                    stage, f"ingest: in process, {about}", _batch_in_process(requests), BATCH_CLIENTS
                )
                floor = await _add_floor(stage, database, about, batch=BATCH, clients=BATCH_CLIENTS)
                stage.results.add("ingest: submit_many / floor", "ratio", bulk / floor)


def _clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"


async def _add(stage: Stage, about: str, submit: Submit, clients: int) -> float:
    """Submit for a while, or until there is nothing more to submit; returns requests per second."""
    began = time.perf_counter()
    until = began + (QUICK_SECONDS if stage.quick else SECONDS)

    async def client() -> int:
        taken = 0
        while time.perf_counter() < until and (now := await submit()):
            taken += now
        return taken

    taken = sum(await asyncio.gather(*(client() for _ in range(clients))))
    rate = taken / (time.perf_counter() - began)
    stage.results.add(about, "requests/s", rate)
    return rate


async def _add_floor(stage: Stage, database: str, about: str, *, batch: int, clients: int) -> float:
    """The same for the bare driver."""
    template = await stage.template(GENERATION)
    insert = inserting(stage.client[database], template, batch=batch, batches=FLOOR // batch)
    return await _add(stage, f"ingest: floor, {about}", insert, clients)


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
