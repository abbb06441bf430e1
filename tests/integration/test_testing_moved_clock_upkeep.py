import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import LocalPartUnavailable
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.testing import (
    MovedClock,
    ScriptedBaseService,
    complete,
    emptied_store,
    fail,
    run_until_idle,
    wait_for_step,
)
from agent_service.testing.fixtures import _entered
from agent_service.testing.moved_clock import find_faketime, movable_mongod
from agent_service.workers.worker_base import ClientWorker
from tests.support.worker_tools import AT_ONCE, claim, error_of, read, running, submit

TEN_MINUTES = timedelta(minutes=10)
HOUR = timedelta(hours=1)
#: Much less than what the clock is moved by.
AT_ONCE_SECONDS = 15


@pytest.fixture(scope="module")
def movable() -> Iterator[tuple[str, MovedClock]]:
    with _entered(movable_mongod()) as (server, clock):
        yield server.uri, clock


@asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE_SECONDS


@pytest.fixture
async def store(movable: tuple[str, MovedClock]) -> AsyncIterator[Store]:
    uri, clock = movable
    async with emptied_store(uri, database="moved") as store:
        clock.follow(store)
        yield store
        clock.forget(store)


@pytest.fixture
def clock(movable: tuple[str, MovedClock]) -> MovedClock:
    return movable[1]


def patient_worker(store: Store, service: ScriptedBaseService, **options: Any) -> ClientWorker:
    backoff = RetryPolicy(base=TEN_MINUTES, cap=TEN_MINUTES)
    options = {"backoff": backoff, **options}
    return ClientWorker(store, service="generation", base_url=service.url, **options)


async def test_a_retry_in_ten_minutes_happens_at_once(store: Store, clock: MovedClock) -> None:
    async with at_once(), ScriptedBaseService() as service:
        service.script(fail(503, retry_after=TEN_MINUTES), complete("second"))
        worker = patient_worker(store, service, backoff=AT_ONCE)
        request_id = await submit(store)
        await run_until_idle(store, worker)
        waiting = await read(store, f"{request_id}.draft")
        assert waiting.status is ContextStatus.SCHEDULED
        # Who waits for the same service comes back a little apart.
        await clock.advance(TEN_MINUTES + timedelta(minutes=1))
        await run_until_idle(store, worker)
        ended = await read(store, f"{request_id}.draft")
    assert (ended.status, ended.output) == (ContextStatus.COMPLETED, "second")
    assert ended.started_at is not None
    assert ended.started_at >= waiting.run_at


async def test_workers_that_run_go_on_with_what_is_due_then(store: Store, clock: MovedClock) -> None:
    async with at_once(), ScriptedBaseService() as service, running(patient_worker(store, service)):
        service.script(fail(503), complete("second"))
        request_id = await submit(store)
        await run_until_idle(store)
        await clock.advance(TEN_MINUTES)
        ended = await wait_for_step(store, request_id, "draft")
    assert ended.output == "second"


async def test_a_deadline_an_hour_ahead_passes_at_once(store: Store, clock: MovedClock) -> None:
    async with at_once():
        request_id = await submit(store, deadline_seconds=HOUR.total_seconds())
        await clock.advance(HOUR - timedelta(seconds=30))
        assert not (await RequestService(store, max_attempts={}).get(request_id)).status.ended
        await clock.advance(timedelta(minutes=1))
        ended = await read(store, f"{request_id}.draft")
    assert error_of(ended) == "deadline_exceeded"


async def test_what_a_dead_worker_held_is_claimed_anew(store: Store, clock: MovedClock) -> None:
    [held] = await claim(store, 1, seconds=300)
    async with at_once(), ScriptedBaseService(default=complete("second")) as service:
        await clock.advance(timedelta(seconds=301))
        # Its back-off may be over already.
        assert (await read(store, held.id)).leases_lost == 1
        await clock.advance(HOUR)
        await run_until_idle(store, patient_worker(store, service))
    ended = await read(store, held.id)
    assert (ended.output, ended.leases_lost) == ("second", 1)


async def test_a_server_whose_clock_is_moved_a_month_stays_primary_and_takes_writes(
    movable: tuple[str, MovedClock], store: Store, clock: MovedClock
) -> None:
    uri, _ = movable
    async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True, retryWrites=False) as client:
        before = await client.admin.command("hello")
        async with client.start_session() as session:
            await client["notes"]["notes"].insert_one({"_id": 1}, session=session)
            await clock.advance(timedelta(days=30))
            await client["notes"]["notes"].insert_one({"_id": 2}, session=session)
        after = await client.admin.command("hello")
        now = await client["notes"].aggregate([{"$documents": [{"now": "$$NOW"}]}])
        [found] = await now.to_list()
    assert after["isWritablePrimary"]
    assert after["electionId"] == before["electionId"]
    assert abs(found["now"] - (datetime.now(UTC) + clock.ahead)) < timedelta(seconds=AT_ONCE_SECONDS)
    assert abs(found["now"] - store.clock.now()) < timedelta(seconds=3)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1)])
async def test_a_clock_does_not_go_back(clock: MovedClock, length: timedelta) -> None:
    with pytest.raises(ValueError, match="only goes on"):
        await clock.advance(length)


def test_a_server_with_a_moved_clock_leaves_nothing_in_shared_memory() -> None:
    with _entered(movable_mongod()) as (server, _):
        left = f"*faketime_*_{server.pid}"
    assert list(Path("/dev/shm").glob(left)) == []


def test_where_the_library_is_missing_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_service.testing.moved_clock._PLACES", ())
    with pytest.raises(LocalPartUnavailable, match="apt-get install faketime"):
        find_faketime()
