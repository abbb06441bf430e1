"""A storm of cancelled tasks: nothing is left claimed, and connections stay bounded."""

import asyncio
import gc
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import pytest
from loguru import logger
from pymongo import AsyncMongoClient

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import StoreError
from agent_service.local.servers import serve
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.operations import paced
from tests.support.api import make_app
from tests.support.submissions import planned
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, echo, running, step

#: No server dies here, so whatever is never closed was left behind by us.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")

STOPS = 30
CALLS = 120
#: The driver's own: a monitor and its round trips, beside those that are used.
_MONITORS = 4
#: What the pool of a client holds at most, as the driver is shipped.
_POOL = 100
_SUBMISSION = {"steps": [step()]}


@asynccontextmanager
async def named_store(uri: str, database: str) -> AsyncIterator[tuple[Store, str]]:
    """A store, and the name by which the server knows its connections."""
    name = f"storm-{uuid.uuid4().hex}"
    client = AsyncMongoClient[dict[str, Any]](uri, appname=name, server_selector=paced)
    async with client, Store(client[database]) as store:
        await store.prepare()
        yield store, name
    gc.collect()


async def connections(raw: Raw, name: str) -> int:
    """How many connections a client has at the server, idle ones too."""
    found = await raw.client.admin.aggregate(
        [{"$currentOp": {"allUsers": True, "idleConnections": True}}, {"$match": {"appName": name}}]
    )
    return len(await found.to_list())


async def test_a_worker_that_is_stopped_in_the_middle_of_claims_leaves_nothing_claimed(
    mongodb_uri: str, database_name: str, store: Store, raw: Raw
) -> None:
    async def slow(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        await asyncio.sleep(3600)
        return BaseServiceAnswer(output=None)

    requests = RequestService(store, max_attempts={"generation": 1})
    many = [step(f"step_{number:02}") for number in range(60)]
    accepted = await requests.submit({"steps": many})
    async with named_store(mongodb_uri, database_name) as (fragile, name):
        most = 0
        for number in range(STOPS):
            worker = HandlerWorker(fragile, slow, concurrency=20, lease_seconds=60)
            await worker.start()
            # Sooner or later after its first claim was sent: before, during and after the batches.
            for _ in range(number % 15):
                await asyncio.sleep(0)
            await worker.stop()
            most = max(most, await connections(raw, name))
        assert most <= 3 * 20 + _MONITORS
        left = await store.contexts.of_request(accepted.request.id)
        assert {(c.status, c.tries) for c in left} == {(ContextStatus.PENDING, 0)}
        outcomes = {record.outcome for context in left for record in context.history}
        assert outcomes <= {AttemptOutcome.RELEASED}
        async with running(HandlerWorker(fragile, echo, concurrency=20)):
            await all_ended(store, raw)


async def test_calls_that_their_callers_cancel_leave_nothing_behind(
    mongodb_uri: str, database_name: str, store: Store, raw: Raw
) -> None:
    seed = random.randrange(2**32)
    logger.info("the seed of this storm is {}", seed)
    chance = random.Random(seed)
    async with named_store(mongodb_uri, database_name) as (fragile, name):
        requests = RequestService(fragile, max_attempts={"generation": 3})
        known = (await requests.submit(_SUBMISSION)).request.id

        async def follow() -> None:
            async for _ in requests.events(known):
                continue

        kinds: list[Callable[[], Awaitable[object]]] = [
            lambda: requests.submit(_SUBMISSION),
            lambda: requests.submit(_SUBMISSION),
            lambda: requests.get(known),
            follow,
        ]
        async with running(HandlerWorker(fragile, echo, concurrency=5, lease_seconds=6)):
            most = await storm(kinds, chance, lambda: connections(raw, name))
            await planned(fragile)
            await all_ended(store, raw)
    assert most <= _POOL + _MONITORS, f"seed {seed}"
    await assert_done_once(store, raw)


async def test_clients_that_go_away_from_the_api_leave_nothing_behind(
    mongodb_uri: str, database_name: str, store: Store, raw: Raw
) -> None:
    seed = random.randrange(2**32)
    logger.info("the seed of this storm is {}", seed)
    chance = random.Random(seed)
    async with (
        named_store(mongodb_uri, database_name) as (fragile, name),
        serve(make_app(fragile)) as server,
    ):
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=server.base_url, timeout=20, limits=limits) as client:
            first = await client.post("/v1/requests", json=_SUBMISSION)
            address = first.headers["location"]

            async def follow() -> None:
                async with client.stream("GET", f"{address}/events") as stream:
                    async for _ in stream.aiter_lines():
                        continue

            kinds: list[Callable[[], Awaitable[object]]] = [
                lambda: client.post("/v1/requests", json=_SUBMISSION),
                lambda: client.get(address),
                follow,
                follow,
            ]
            most = await storm(kinds, chance, lambda: connections(raw, name))
            assert most <= _POOL + _MONITORS, f"seed {seed}"
            async with running(HandlerWorker(fragile, echo, concurrency=5, lease_seconds=6)):
                await planned(fragile)
                await all_ended(store, raw)
            # After the storm it serves as before.
            answer = await client.get(address)
            assert answer.json()["status"] == "completed"
    await assert_done_once(store, raw)


async def storm(
    kinds: list[Callable[[], Awaitable[object]]],
    chance: random.Random,
    count: Callable[[], Awaitable[int]],
) -> int:
    """Begin calls of all kinds and cancel each at some moment; returns the most connections seen."""
    most = 0

    async def call_and_cancel() -> None:
        nonlocal most
        call = asyncio.ensure_future(chance.choice(kinds)())
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        call.cancel()
        with suppress(asyncio.CancelledError, StoreError):
            await call

    for _ in range(CALLS // 10):
        await asyncio.gather(*(call_and_cancel() for _ in range(10)))
        most = max(most, await count())
    return most


async def all_ended(store: Store, raw: Raw) -> None:
    """Whatever request exists has ended and is settled; what was interrupted is finished by others."""

    async def none_left() -> bool:
        open_requests = await raw.requests.count_documents({"finished_at": None})
        unsettled = await raw.contexts.count_documents({"settled": {"$ne": True}})
        return open_requests == unsettled == 0

    has_ended: bool = await until(none_left, seconds=60)
    assert has_ended


async def assert_done_once(store: Store, raw: Raw) -> None:
    ids = [document["_id"] async for document in raw.requests.find({}, {"_id": 1})]
    assert len(ids) > 1
    for request_id in ids:
        (context,) = await store.contexts.of_request(request_id)
        outcomes = [record.outcome for record in context.history]
        assert context.status is ContextStatus.COMPLETED
        assert outcomes.count(AttemptOutcome.COMPLETED) == 1
        # On a busy machine a lease may be lost; that costs a try, and nothing else does.
        assert context.tries == 1 + outcomes.count(AttemptOutcome.LEASE_LOST)


@pytest.fixture(autouse=True)
def nothing_unclosed() -> Any:
    """What was never closed is told by the collector, and a warning is an error."""
    yield
    gc.collect()
