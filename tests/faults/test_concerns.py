"""What is written is written to a majority, and what a client is shown is read from what a majority has."""

from typing import Any

from pymongo import AsyncMongoClient

from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.faults.support.failing_commands import WRITE_COMMANDS
from tests.faults.support.whole_life import WholeLife
from tests.support.explained_commands import CommandRecorder
from tests.support.worker_tools import HandlerWorker, echo, ended, running, step, submit

_SUBMISSION = {"steps": [step("first"), step("second", after=("first",))]}


async def test_every_write_waits_for_a_majority(mongodb_uri: str, database_name: str, store: Store) -> None:
    recorder = CommandRecorder()
    client = AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[recorder])
    async with client, Store(client[database_name]) as recorded:
        life = WholeLife(recorded, store)
        await life.run()
        await life.check()
    writes = [command for name in WRITE_COMMANDS - {"createIndexes"} for command in recorder.named(name)]
    assert {name for name, _ in recorder.sent} >= WRITE_COMMANDS
    of_primary = [command for command in writes if command.get("writeConcern") != {"w": "majority"}]
    # A claim of one of these is written after it, and waits for a majority of both.
    assert {command.get("insert") for command in of_primary} == {"contexts"}
    assert {str(command["writeConcern"]) for command in of_primary} == {"{'w': 1}"}


async def test_whatever_a_client_is_shown_is_read_from_a_majority(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    async with running(HandlerWorker(store, echo)):
        request_id = await submit(store, *_SUBMISSION["steps"])
        await ended(store, request_id)
    recorder = CommandRecorder()
    client = AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[recorder])
    async with client, Store(client[database_name]) as recorded:
        requests = RequestService(recorded, max_attempts={"generation": 3})
        await requests.get(request_id)
        assert [event async for event in requests.events(request_id)]
        await requests.submit(_SUBMISSION, idempotency_key="key")
        replay = await requests.submit(_SUBMISSION, idempotency_key="key")
        assert replay.replayed
        await requests.cancel(replay.request.id)
        await requests.retry(request_id, from_step="second")
    reads = recorder.named("find", "aggregate")
    reads = [read for read in reads if "$changeStream" not in str(read.get("pipeline"))]
    assert {read.get("find") for read in reads} >= {"requests", "contexts", "events"}
    assert [read for read in reads if read.get("readConcern", {}).get("level") != "majority"] == []
