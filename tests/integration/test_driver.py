"""The bridge between the drivers: one behaviour, whichever of them is underneath."""

from datetime import UTC
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError

from agent_service.domain.errors import ConfigurationError
from agent_service.store.driver import (
    Database,
    Update,
    aggregate,
    bulk_write,
    causal_session,
    close_client,
    durable,
    is_database,
    open_client,
    seeds_of,
    update_once,
)
from tests.support.contexts import NOW
from tests.support.explained_commands import CommandRecorder, Document

pytestmark = pytest.mark.conformance

DRIVERS = ["pymongo", "motor"]


@pytest.fixture(params=DRIVERS)
async def database(request: pytest.FixtureRequest, mongodb_uri: str, database_name: str) -> Any:
    """An empty database of each driver."""
    client = open_client(mongodb_uri, request.param)
    yield client[database_name]
    await close_client(client)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://host",
        "mongodb://",
        "mongodb://host:port/",
        "mongodb://host:99999/",
        "mongodb+srv://host:1/",
        "mongodb://user:pass:word@host/",
        "mongodb://user:50%off@host/",
    ],
)
def test_an_address_that_cannot_be_used_is_a_wrong_setting(driver: str, uri: str) -> None:
    with pytest.raises(ConfigurationError, match="MONGODB_URI"):
        open_client(uri, driver)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:my/secret@host/",
        "mongodb://user:my/secret@host:1/db",
        "mongodb://user:mysecret@host:port/",
        "mongodb://user:my@secret@host/",
        "mongodb://user:my:secret@host/",
        "mongodb://user:my%secret@host/",
        "mongodb://user:my?secret@host/",
        "mongodb+srv://user:mysecret@host:1/",
    ],
)
def test_no_password_is_quoted_from_a_wrong_address(uri: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_client(uri, "pymongo")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unknown_driver_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="MONGODB_DRIVER"):
        open_client("mongodb://host/", "pymotor")


async def test_a_database_is_told_from_what_looks_like_one(mongodb_uri: str) -> None:
    with MongoClient[Document](mongodb_uri) as blocking:
        motor: Any = AsyncIOMotorClient(mongodb_uri)
        async with AsyncMongoClient[Document](mongodb_uri) as client:
            databases: list[Any] = [client["x"], motor["x"]]
            others = [client, client["x"]["y"], motor, motor["x"]["y"], blocking, blocking["x"], "x", None]
            assert all(is_database(candidate) for candidate in databases)
            assert not any(is_database(candidate) for candidate in others)
        motor.close()


async def test_the_seeds_are_those_of_the_address(mongodb_uri: str, database: Database) -> None:
    [(host, port)] = seeds_of(database)
    assert f"{host}:{port}" in mongodb_uri


async def test_everything_is_written_to_a_majority_and_read_from_the_primary(
    mongodb_uri: str, database_name: str, recorder: CommandRecorder
) -> None:
    # What the caller's own client says about it does not count.
    async with AsyncMongoClient[Document](
        mongodb_uri, w=1, readPreference="secondaryPreferred", event_listeners=[recorder]
    ) as client:
        things = durable(client[database_name], "things", read="majority")
        await things.insert_one({"_id": 1, "at": NOW})
        found = await things.find_one({"_id": 1})
    [inserted], [find] = recorder.named("insert"), recorder.named("find")
    assert inserted["writeConcern"] == {"w": "majority"}
    assert find["readConcern"] == {"level": "majority"}
    assert find.get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}
    assert found == {"_id": 1, "at": NOW}
    assert found["at"].tzinfo is UTC


async def test_a_bulk_says_how_many_documents_it_matched(database: Database) -> None:
    things = durable(database, "things")
    await things.insert_many([{"_id": number, "n": number % 2} for number in range(5)])
    updates: list[Update] = [
        UpdateOne({"_id": 1}, {"$set": {"a": 1}}),
        UpdateOne({"_id": 99}, {"$set": {"a": 1}}),
        UpdateMany({"n": 0}, {"$set": {"a": 2}}),
    ]
    for ordered in (True, False):
        assert await bulk_write(things, updates, ordered=ordered) == 4
    assert await bulk_write(things, []) == 0
    assert sorted([document.get("a", 0) async for document in things.find()]) == [0, 1, 2, 2, 2]


async def test_reads_in_a_session_follow_one_another(database: Database) -> None:
    things = durable(database, "things", read="majority")
    async with causal_session(database) as session:
        await things.insert_one({"_id": 1}, session=session)
        assert await things.find_one({"_id": 1}, session=session) == {"_id": 1}
        assert session.operation_time is not None
        assert session.options.causal_consistency
    assert session.has_ended


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("option", "seconds"), [("", 30), ("&heartbeatFrequencyMS=7000", 7)])
async def test_servers_are_looked_at_seldom_unless_the_address_says_otherwise(
    driver: str, option: str, seconds: float
) -> None:
    # Nothing is sent before the first use.
    client: Any = open_client(f"mongodb://127.0.0.1:1/?replicaSet=rs0{option}", driver)
    inner = client if isinstance(client, AsyncMongoClient) else client.delegate
    assert inner._topology_settings.heartbeat_frequency == seconds
    await close_client(client)


async def test_a_pipeline_over_the_database_reads_from_the_primary_and_gives_aware_times(
    database: Database,
) -> None:
    await durable(database, "things").insert_one({"_id": 1, "at": NOW})
    union = {"coll": "things", "pipeline": [{"$match": {"_id": 1}}]}
    pipeline: list[Document] = [{"$documents": [{"now": "$$NOW"}]}, {"$unionWith": union}]
    time, thing = await aggregate(database, pipeline)
    assert time["now"].tzinfo is UTC
    assert thing == {"_id": 1, "at": NOW}


async def test_updates_in_one_command_are_sent_once_for_a_majority_and_say_how_many_they_matched(
    mongodb_uri: str, database_name: str, recorder: CommandRecorder
) -> None:
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder]) as client:
        things = durable(client[database_name], "things")
        await things.insert_many([{"_id": number} for number in range(3)])
        updates = [{"q": {"_id": number}, "u": {"$set": {"a": 1}}} for number in (0, 2, 99)]
        assert await update_once(client[database_name], "things", updates) == 2
        assert await update_once(client[database_name], "things", []) == 0
    [sent] = recorder.named("update")
    assert sent["writeConcern"] == {"w": "majority"}
    # The server would keep a record of it for a driver that may repeat it.
    assert "txnNumber" not in sent


async def test_what_is_wrong_with_one_update_of_a_command_is_told_and_the_others_are_applied(
    database: Database,
) -> None:
    things = durable(database, "things")
    await things.insert_many([{"_id": 1, "a": "text"}, {"_id": 2, "a": 1}])
    updates = [{"q": {"_id": number}, "u": {"$inc": {"a": 1}}} for number in (1, 2)]
    with pytest.raises(BulkWriteError) as refused:
        await update_once(database, "things", updates)
    assert [each["index"] for each in refused.value.details["writeErrors"]] == [0]
    assert await things.find_one({"_id": 2}) == {"_id": 2, "a": 2}
