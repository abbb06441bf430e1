"""Store: ready when indexes and clock are, patient at the start, and quick to say that nobody answers."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.errors import ConfigurationError, StoreError, StoreUnavailable
from agent_service.local.mongod import start_mongod
from agent_service.store import Store, database
from agent_service.store.indexes import INDEXES
from tests.support.contexts import a_request
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.fail_points import fragile_store

DRIVERS = ["pymongo", "motor"]
each_driver = pytest.mark.parametrize("driver", DRIVERS)


@pytest.fixture
def warnings() -> Iterator[asyncio.Queue[str]]:
    """The lines that are logged as warnings, as they come."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    sink = logger.add(lambda line: lines.put_nowait(str(line)), level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


@pytest.mark.fresh_database
@each_driver
async def test_preparing_many_times_at_once_creates_every_index_once(
    mongodb_uri: str, database_name: str, raw: AsyncDatabase[Document], driver: str
) -> None:
    stores = [Store.connect(mongodb_uri, database=database_name, driver=driver) for _ in range(5)]
    await asyncio.gather(*(store.prepare() for store in stores for _ in range(3)))
    assert await stores[0].problems() == []
    for collection in {index.collection for index in INDEXES}:
        names = {index.name for index in INDEXES if index.collection == collection}
        assert set(await raw[collection].index_information()) == {"_id_", *names}
    for store in stores:
        await store.close()


async def test_a_store_that_is_prepared_sends_nothing_to_be_so_again(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    await recorded_store.prepare()
    assert recorder.sent == []
    assert recorded_store.clock.measured


@pytest.mark.conformance
@pytest.mark.fresh_database
async def test_preparing_what_was_dropped_creates_it_again(any_store: Store) -> None:
    await any_store.drop()
    assert len(await any_store.problems()) == len(INDEXES)
    await any_store.prepare()
    assert await any_store.problems() == []


async def test_a_dropped_index_is_named_with_what_it_is_for(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    await raw["contexts"].drop_index("lines")
    [problem] = await any_store.problems()
    assert "lines" in problem
    assert "contexts" in problem
    assert "the depth of a queue" in problem


async def test_preparing_can_be_called_again_after_a_failure(mongodb_uri: str, database_name: str) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await point.fail("createIndexes", errorCode=11601)
        with pytest.raises(StoreError):
            await store.prepare()
        await point.off()
        await store.prepare()
        assert await store.problems() == []


@pytest.mark.conformance
async def test_the_clock_tells_the_time_of_the_server(any_store: Store) -> None:
    await any_store.measure_clock()
    # The server runs on this machine.
    assert abs(any_store.clock.now() - datetime.now(UTC)) < timedelta(seconds=2)


@each_driver
async def test_a_server_that_does_not_answer_is_told_in_time_and_without_a_secret(
    free_port: int, driver: str
) -> None:
    uri = f"mongodb://user:secret@127.0.0.1:{free_port}/"
    async with Store.connect(uri, driver=driver) as store:
        started = time.monotonic()
        operations = store.prepare(), store.problems(), store.requests.insert(a_request())
        errors = await asyncio.gather(*operations, return_exceptions=True)
        assert time.monotonic() - started < 8
        for error in errors:
            assert isinstance(error, StoreUnavailable)
            assert "secret" not in str(error)
        assert store.address == f"127.0.0.1:{free_port}"


@each_driver
def test_the_address_names_every_host_and_no_credentials(driver: str) -> None:
    async def address() -> str:
        uri = "mongodb://user:secret@one:1,two:2/?replicaSet=rs0"
        async with Store.connect(uri, driver=driver) as store:
            return store.address

    assert asyncio.run(address()) == "one:1,two:2"


@each_driver
async def test_waiting_goes_on_until_a_server_appears(
    tmp_path: Path, free_port: int, warnings: asyncio.Queue[str], driver: str
) -> None:
    client_class: Any = AsyncMongoClient if driver == "pymongo" else AsyncIOMotorClient
    address = f"127.0.0.1:{free_port}"
    client = client_class(f"mongodb://{address}/?replicaSet=rs0", serverSelectionTimeoutMS=50)
    async with asyncio.timeout(60), Store(client["appears"]) as store:
        ready = asyncio.create_task(store.wait_until_ready())
        line = await warnings.get()
        assert address in line
        assert "next try in" in line
        assert line.count("\n") == 1
        server = await start_mongod(tmp_path, port=free_port)
        try:
            await ready
            assert await store.problems() == []
        finally:
            await server.stop()
    if driver == "pymongo":
        await client.close()
    else:
        client.close()


@each_driver
async def test_waiting_ends_at_what_waiting_does_not_mend(mongodb_uri: str, driver: str) -> None:
    uri = mongodb_uri.replace("mongodb://", "mongodb://nobody:secret@")
    async with asyncio.timeout(20), Store.connect(uri, driver=driver) as store:
        with pytest.raises(StoreError, match="Authentication failed") as caught:
            await store.wait_until_ready()
    assert not isinstance(caught.value, StoreUnavailable)
    assert "secret" not in str(caught.value)


async def test_what_is_no_database_of_an_asynchronous_driver_is_refused(mongodb_uri: str) -> None:
    with MongoClient[Document](mongodb_uri) as blocking:
        async with AsyncMongoClient[Document](mongodb_uri) as client:
            for wrong in (client, client["x"]["y"], blocking, blocking["x"], mongodb_uri, None):
                with pytest.raises(ConfigurationError, match="Store takes a database of"):
                    Store(wrong)


async def test_a_client_that_was_handed_over_is_left_open(mongodb_uri: str, database_name: str) -> None:
    async with AsyncMongoClient[Document](mongodb_uri) as client:
        async with Store(client[database_name]) as store:
            await store.measure_clock()
        assert (await client.admin.command("ping"))["ok"] == 1


async def test_a_store_is_closed_although_an_index_is_still_being_built(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def build(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(database, "create_indexes", build)
    monkeypatch.setattr(database, "_CLOSE_WITHIN", timedelta(milliseconds=20))
    store = Store.connect(mongodb_uri, database=database_name)
    preparing = asyncio.create_task(store.prepare())
    async with asyncio.timeout(30):
        await begun.wait()
        await store.close()
        await asyncio.wait({preparing})
    assert preparing.cancelled()
