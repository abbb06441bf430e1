"""Store and the primary: whose clock it tells the time of, and how soon it notices another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, OperationFailure

from agent_service.domain.errors import StoreUnavailable
from agent_service.local.mongod import start_mongod
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from agent_service.store.lookout import Look
from agent_service.store.primary import primary_of
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, echo, ended, running, submit

HOUR = timedelta(hours=1)
DRIVERS = pytest.mark.parametrize("driver", ["pymongo", "motor"])


@pytest.fixture
async def own_uri(tmp_path: Path) -> AsyncIterator[str]:
    """A server that a test may depose."""
    server = await start_mongod(tmp_path)
    yield server.uri
    await server.stop()


async def depose(uri: str) -> None:
    """The primary steps down, and is elected again as it is the only one; that is another election."""
    async with AsyncMongoClient[Document](uri, serverSelectionTimeoutMS=20_000) as client:
        before = (await client.admin.command("hello"))["electionId"]
        with suppress(AutoReconnect):
            await client.admin.command({"replSetStepDown": 1, "force": True})

        async def elected() -> bool | None:
            try:
                found = await client.admin.command("hello")
            except (AutoReconnect, OperationFailure):
                return None
            return bool(found.get("isWritablePrimary")) and found["electionId"] != before

        again: bool = await until(elected, seconds=60)
        assert again


@DRIVERS
async def test_a_new_primary_is_measured_although_nobody_asks(own_uri: str, driver: str) -> None:
    async with Store.connect(own_uri, driver=driver) as store:
        await store.prepare()
        before = store._measured
        await depose(own_uri)
        # Nothing runs here that would measure now and then.
        await until(lambda: store._measured > before, seconds=30)
        assert store.primary_is_new(HOUR)
        assert store._is_clock_current()


@DRIVERS
async def test_a_worker_on_a_handed_over_database_claims_by_the_clock_of_the_present_primary(
    own_uri: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_sweep(self: Rescuer, *, every_duty: bool = True) -> None:
        """Nobody else measures the clock here."""

    monkeypatch.setattr(Rescuer, "sweep", no_sweep)
    client_class = AsyncMongoClient if driver == "pymongo" else AsyncIOMotorClient
    client: Any = client_class(own_uri, tz_aware=True)
    async with (
        Store(client["handed_over"]) as store,
        Store.connect(own_uri, database="handed_over") as clients,
        # An hour without a renewal.
        running(HandlerWorker(store, echo, lease_seconds=3_600)),
    ):
        await ended(clients, await submit(clients))
        before = store._primary
        await depose(own_uri)
        await ended(clients, await submit(clients))
        assert store._primary != before
        assert store._is_clock_current()
    closing = client.close()
    if closing is not None:
        await closing


async def test_a_clock_of_the_present_primary_is_not_measured_again(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    for _ in range(3):
        await recorded_store.keep_clock_current()
    assert recorder.sent == []
    recorded_store._known_primary = "another one"
    assert recorded_store.primary_is_new(timedelta(0))
    for _ in range(3):
        await recorded_store.keep_clock_current()
    assert [command for command in recorder.sent if "hello" in command] == recorder.sent
    assert len(recorder.sent) == 1


async def test_the_driver_knows_of_no_primary_before_it_has_connected(mongodb_uri: str) -> None:
    async with AsyncMongoClient[Document](mongodb_uri) as client:
        assert primary_of(client["x"]) is None
        await client.admin.command("ping")
        assert primary_of(client["x"]) is not None


async def test_every_primary_is_new_at_first_and_the_first_one_too(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    primaries = iter(["one", "one", "two"])

    async def hello(*_: object) -> Document:
        name = next(primaries)
        return {"me": name, "electionId": name, "localTime": datetime.now(UTC)}

    async with Store.connect(mongodb_uri) as store:
        assert store.primary_is_new(timedelta(0))
        monkeypatch.setattr(AsyncDatabase, "command", hello)
        await store.measure_clock()
        first = store._primary_changed
        assert store.primary_is_new(HOUR)
        assert not store.primary_is_new(timedelta(0))
        await store.measure_clock()
        assert store._primary_changed == first
        await store.measure_clock()
        assert store._primary_changed != first
        assert store.primary_is_new(HOUR)
        monkeypatch.undo()


async def test_a_primary_that_cannot_be_asked_is_asked_again_later(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Store.connect(mongodb_uri, database=database_name) as store:
        await store.measure_clock()
        asked = asyncio.Event()

        async def away() -> None:
            asked.set()
            raise StoreUnavailable("away")

        store._known_primary = "the one before"
        with monkeypatch.context() as patch:
            patch.setattr(store, "measure_clock", away)
            store._measure_clock_soon()
            async with asyncio.timeout(20):
                await asked.wait()
        assert store.primary_is_new(timedelta(0))
        await store.keep_clock_current()
        assert store._is_clock_current()


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
def test_a_store_can_be_made_before_there_is_an_event_loop(mongodb_uri: str, driver: str) -> None:
    store = Store.connect(mongodb_uri, database="made_early", driver=driver)

    async def use() -> list[str]:
        async with store:
            await store.prepare()
            problems = await store.problems()
            await store.drop()
            return problems

    assert asyncio.run(use()) == []


async def test_a_look_for_repairs_measures_the_clock_on_its_way(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    before = recorded_store._measured
    look = await recorded_store.look(grace=HOUR)
    assert recorded_store._measured > before
    assert look.server_time is not None
    assert abs(look.server_time - recorded_store.clock.now()) < timedelta(seconds=5)
    assert [name for name, _ in recorder.sent] == ["aggregate"]
    # It does not say which primary it was that answered, so after another one was seen, that one is asked.
    recorded_store._known_primary = "another one"
    await recorded_store.look(grace=HOUR)
    assert [name for name, _ in recorder.sent] == ["aggregate", "hello", "aggregate"]


async def test_the_time_of_a_look_does_not_count_where_the_primary_changed_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    see = store.lookout.look

    async def look(now: datetime, *, grace: timedelta) -> Look:
        found = await see(now, grace=grace)
        monkeypatch.setattr("agent_service.store.database.primary_of", lambda _: "another one")
        return found

    monkeypatch.setattr(store.lookout, "look", look)
    before = store._measured
    await store.look(grace=HOUR)
    assert store._measured == before
