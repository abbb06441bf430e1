"""A request is as old as the server says, whatever the clock of the process that took it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.clock import ServerClock
from agent_service.domain.request import Request
from agent_service.request_service import RequestService
from agent_service.store import Store, database
from tests.support.submissions import planned
from tests.support.worker_tools import Raw

ONE_STEP = {"service": "generation", "input": "hello"}
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


async def server_time(raw: Raw) -> datetime:
    told: datetime = (await raw.client.admin.command("hello"))["localTime"]
    return told.replace(tzinfo=UTC)


async def submitted(store: Store) -> Request:
    return (await RequestService(store, max_attempts={"generation": 3}).submit(ONE_STEP)).request


async def test_the_first_submission_of_a_process_whose_clock_is_wrong_has_the_servers_time(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client, Store(client[database_name]) as store:
        store.clock = ServerClock(local=lambda: datetime(2001, 1, 1, tzinfo=UTC))
        before = await server_time(raw)
        request = await submitted(store)
        # Times are whole milliseconds, and the clock may be off by half of a round trip.
        assert before - SECOND <= request.created_at <= await server_time(raw) + SECOND
        await planned(store)
        (context,) = await store.contexts.of_request(request.id)
        assert context.created_at == request.created_at
        assert context.rank == int(request.created_at.timestamp() * 1_000_000)


def monotonic_clock_stood_still(monkeypatch: pytest.MonkeyPatch, later: float) -> None:
    """As after the machine slept: only the time of day went on."""
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + later)


def time_went_by(monkeypatch: pytest.MonkeyPatch, later: float) -> None:
    """As in a process that only takes requests, where nobody else compares the clocks."""
    monkeypatch.setattr(database, "_CLOCK_AGE", timedelta(seconds=-later))


@pytest.mark.parametrize("since", [monotonic_clock_stood_still, time_went_by])
async def test_a_later_submission_compares_the_clocks_again(
    store: Store,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    since: Callable[[pytest.MonkeyPatch, float], None],
) -> None:
    await submitted(store)
    # What was measured is wrong by now.
    store.clock = ServerClock(local=lambda: datetime.now(UTC) - HOUR)
    assert await server_time(raw) - (await submitted(store)).created_at > HOUR / 2
    since(monkeypatch, 120)
    assert abs(await server_time(raw) - (await submitted(store)).created_at) < timedelta(seconds=5)
