"""What is inserted by a plain command is inserted as the driver's own way would have it, whatever fails."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, ServerSelectionTimeoutError

from agent_service.store import insertion, operations
from agent_service.store.driver import Database, durable, write_once
from agent_service.store.insertion import insert_all
from agent_service.store.operations import is_duplicate, writing
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.fail_points import FailPoint, fragile_store

MIB = 2**20
THREE: list[Document] = [{"_id": number} for number in range(3)]
#: Server codes: HostUnreachable, ShutdownInProgress, PrimarySteppedDown, InterruptedAtShutdown.
PASSING = (6, 91, 189, 11600)

Fragile = tuple[Database, FailPoint]


@pytest.fixture(params=["pymongo", pytest.param("motor", marks=pytest.mark.conformance)])
async def fragile(
    request: pytest.FixtureRequest, mongodb_uri: str, database_name: str, recorder: CommandRecorder
) -> AsyncIterator[Fragile]:
    options: dict[str, Any] = {"driver": request.param, "event_listeners": [recorder]}
    async with fragile_store(mongodb_uri, database_name, **options) as (store, point):
        yield store._database, point


async def insert(database: Database, *documents: Document, ordered: bool = True) -> None:
    await insert_all(database, durable(database, "things"), documents, ordered=ordered)


async def stored(database: Database) -> list[Any]:
    return sorted([document["_id"] async for document in durable(database, "things").find()])


async def test_one_command_of_which_the_server_keeps_no_record_inserts_all(
    fragile: Fragile, recorder: CommandRecorder
) -> None:
    database, _ = fragile
    await insert(database, *THREE)
    (command,) = recorder.named("insert")
    assert "txnNumber" not in command
    assert command["writeConcern"] == {"w": "majority"}
    assert await stored(database) == [0, 1, 2]


@pytest.mark.parametrize("ordered", [True, False])
async def test_what_exists_is_told_as_the_driver_tells_it(fragile: Fragile, ordered: bool) -> None:
    database, _ = fragile
    await insert(database, THREE[1])
    with pytest.raises(BulkWriteError) as refused:
        await insert(database, *THREE, ordered=ordered)
    assert is_duplicate(refused.value)
    (error,) = refused.value.details["writeErrors"]
    assert (error["index"], error["keyPattern"]) == (1, {"_id": 1})
    assert await stored(database) == ([0, 1] if ordered else [0, 1, 2])


@pytest.mark.parametrize(
    "how",
    [{"closeConnection": True}, *({"errorCode": code} for code in PASSING)],
    ids=lambda how: "_".join(map(str, how.values())),
)
async def test_what_fails_in_passing_is_sent_again_and_repeated_once_more_by_the_driver(
    fragile: Fragile, how: dict[str, Any]
) -> None:
    database, point = fragile
    await point.fail("insert", times=2 if "closeConnection" in how else 1, **how)
    await insert(database, *THREE)
    assert await stored(database) == [0, 1, 2]


@pytest.mark.parametrize("code", PASSING[1:])
async def test_what_was_applied_and_is_sent_again_is_a_duplicate_of_its_own_id(
    fragile: Fragile, code: int
) -> None:
    database, point = fragile
    await point.fail("insert", times=1, writeConcernError={"code": code, "errmsg": "the primary is going"})
    with pytest.raises(BulkWriteError) as refused:
        await insert(database, *THREE, ordered=False)
    assert is_duplicate(refused.value)
    assert {each["index"] for each in refused.value.details["writeErrors"]} == {0, 1, 2}
    assert await stored(database) == [0, 1, 2]


@pytest.mark.parametrize(
    "how",
    [{"errorCode": 14031}, {"writeConcernError": {"code": 64, "errmsg": "waiting timed out"}}],
    ids=["the disk is full", "no majority in time"],
)
async def test_what_does_not_pass_is_raised_at_once(
    fragile: Fragile, recorder: CommandRecorder, how: dict[str, Any]
) -> None:
    database, point = fragile
    await point.fail("insert", **how)
    with pytest.raises(OperationFailure) as failed:
        await insert(database, *THREE)
    assert not (isinstance(failed.value, BulkWriteError) and is_duplicate(failed.value))
    assert len(recorder.named("insert")) == 1


async def test_what_is_too_much_for_one_command_goes_in_several(fragile: Fragile) -> None:
    database, _ = fragile
    await insert(database, *({"_id": number, "text": "x" * (9 * MIB)} for number in range(7)))
    assert await stored(database) == list(range(7))


@pytest.mark.parametrize("ordered", [True, False])
async def test_what_exists_is_told_by_its_place_among_all_of_them_however_many_commands_they_take(
    fragile: Fragile, ordered: bool
) -> None:
    database, _ = fragile
    documents = [{"_id": number, "text": "x" * (3 * MIB)} for number in range(7)]
    await insert(database, {"_id": 3}, {"_id": 5})
    with pytest.raises(BulkWriteError) as refused:
        await insert(database, *documents, ordered=ordered)
    assert is_duplicate(refused.value)
    assert [each["index"] for each in refused.value.details["writeErrors"]] == ([3] if ordered else [3, 5])
    assert await stored(database) == ([0, 1, 2, 3, 5] if ordered else list(range(7)))


async def test_many_small_ones_are_measured_and_go_in_several_commands(
    fragile: Fragile, recorder: CommandRecorder
) -> None:
    database, _ = fragile
    await insert(database, *({"_id": number} for number in range(2_500)))
    assert [len(command["documents"]) for command in recorder.named("insert")] == [1_000, 1_000, 500]
    assert await stored(database) == list(range(2_500))


async def test_more_commands_than_may_repeat_each_other_wait_for_nothing(
    fragile: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, _ = fragile
    monkeypatch.setattr(operations, "_PACE", 1_000.0)
    with writing(timedelta(seconds=20)):
        await insert(database, *({"_id": number} for number in range(12_000)))
    assert len(await stored(database)) == 12_000


async def test_where_the_primary_is_gone_after_the_first_command_nobody_is_told_that_nothing_was_sent(
    fragile: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, _ = fragile
    sent = 0

    async def once(*arguments: Any, **options: Any) -> int:
        nonlocal sent
        sent += 1
        if sent > 1:
            raise ServerSelectionTimeoutError("no primary")
        return await write_once(*arguments, **options)

    monkeypatch.setattr(insertion, "write_once", once)
    with pytest.raises(AutoReconnect) as failed:
        await insert(database, *({"_id": number} for number in range(1_001)))
    assert not isinstance(failed.value, ServerSelectionTimeoutError)
    assert len(await stored(database)) == 1_000


async def test_without_a_primary_nothing_is_sent() -> None:
    address = "mongodb://127.0.0.1:9/?replicaSet=rs0"
    async with AsyncMongoClient[Document](address, serverSelectionTimeoutMS=100) as client:
        with pytest.raises(ServerSelectionTimeoutError):
            await insert(client["nowhere"], *THREE)


async def test_where_the_primary_is_gone_when_it_is_sent_again_nobody_is_told_that_nothing_was_sent(
    fragile: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, point = fragile
    collection = durable(database, "things")

    async def no_primary(*_: object, **__: object) -> None:
        raise ServerSelectionTimeoutError("no primary")

    monkeypatch.setattr(type(collection), "insert_many", no_primary)
    await point.fail("insert", times=1, closeConnection=True)
    with pytest.raises(AutoReconnect) as failed:
        await insert_all(database, collection, THREE, ordered=True)
    assert not isinstance(failed.value, ServerSelectionTimeoutError)
