"""Prefer: wait=N over real sockets: ended by another process's worker, by the client, and by a stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import httpx2

from agent_service.context_manager import ContextManager
from agent_service.local.servers import Server, serve
from agent_service.main import serving_api
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.store.notifier import Topic
from tests.support.api import SUBMISSION, make_app
from tests.support.hand_worker import work_off
from tests.support.open_subscriptions import subscriptions_of
from tests.support.submissions import planned
from tests.support.waiting import until

LONG = {"Prefer": "wait=60"}
#: Far below the wait, and far above what an answer takes.
PROMPTLY = 30


@asynccontextmanager
async def client_of(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=base_url, timeout=90, trust_env=False) as client:
        yield client


def waiters(store: Store) -> int:
    """How many wait for the end of a request in this process."""
    return sum(Topic.STATUS in subscription.topics for subscription in subscriptions_of(store))


async def until_waiting(store: Store, count: int) -> None:
    are_waiting: bool = await until(lambda: waiters(store) == count, seconds=60)
    assert are_waiting


async def test_the_end_that_another_process_writes_answers_who_waits(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    async with (
        serve(make_app(store)) as server,
        client_of(server.base_url) as client,
        Store.connect(mongodb_uri, database=database_name) as elsewhere,
    ):
        began = monotonic()
        submitting = asyncio.create_task(client.post("/v1/requests", json=SUBMISSION, headers=LONG))
        await until_waiting(store, 1)
        await planned(store)
        await work_off(ContextManager(elsewhere))
        taken = await submitting
        assert monotonic() - began < PROMPTLY
    assert (taken.status_code, taken.json()["status"]) == (200, "completed")
    assert waiters(store) == 0


async def test_a_client_that_hangs_up_is_waited_for_no_more(store: Store) -> None:
    async with serve(make_app(store)) as server, client_of(server.base_url) as client:
        path = (await client.post("/v1/requests", json=SUBMISSION)).headers["location"]
        writers = [await hanging(server, path) for _ in range(3)]
        await until_waiting(store, 3)
        for writer in writers:
            writer.transport.abort()
        await until_waiting(store, 0)
        assert (await client.get(path)).status_code == 200


async def hanging(server: Server, path: str) -> asyncio.StreamWriter:
    """A call of somebody who waits for an end; its connection."""
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: api\r\nPrefer: wait=60\r\n\r\n".encode())
    await writer.drain()
    return writer


async def test_a_server_that_stops_answers_who_waits(store: Store) -> None:
    settings = load_settings({"API_PORT": "0"}, env_file=None, secrets_folder=None)
    async with client_of("") as client:
        async with serving_api(settings, store) as base_url:
            address = f"{base_url}/v1/requests"
            waiting = asyncio.create_task(client.post(address, json=SUBMISSION, headers=LONG))
            await until_waiting(store, 1)
            began = monotonic()
        taken = await waiting
        assert monotonic() - began < PROMPTLY
    assert (taken.status_code, taken.json()["status"]) == (202, "accepted")
    assert "preference-applied" not in taken.headers
