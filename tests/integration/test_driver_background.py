"""What MongoDB's driver meets in its background is one warning of ours, not its errors with tracebacks."""

import asyncio
import gc
import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from loguru import logger
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect
from pymongo.periodic_executor import AsyncPeriodicExecutor, PeriodicExecutor

from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from agent_service.store.driver import open_client
from agent_service.telemetry.logging import configure_logging
from tests.support.explained_commands import Document
from tests.support.fail_points import FailPoint
from tests.support.waiting import until


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a process logs with this configuration."""
    root, stream = logging.getLogger(), io.StringIO()
    level = root.level
    configure_logging(level="INFO", format="json", stream=stream)
    yield stream
    logging.captureWarnings(False)
    logger.remove()
    root.handlers[:] = [each for each in root.handlers if "agent_service" not in type(each).__module__]
    root.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def assert_one_warning(log: io.StringIO, reason: str) -> None:
    (line,) = lines(log)
    assert (line["level"], "exception" in line) == ("WARNING", False)
    assert line["message"].startswith("MongoDB's driver had trouble in the background, and goes on: ")
    assert reason in line["message"]


async def abandon_a_cursor(collection: AsyncCollection[Document]) -> None:
    cursor = collection.find(batch_size=2)
    await cursor.next()
    del cursor
    gc.collect()


async def test_cursors_that_cannot_be_killed_are_one_warning(
    mongodb_uri: str, database_name: str, log: io.StringIO
) -> None:
    async with (
        AsyncMongoClient[Document](mongodb_uri, appname=database_name) as client,
        AsyncMongoClient[Document](mongodb_uri) as admin,
    ):
        point = FailPoint(admin, database_name)
        await client[database_name]["many"].insert_many([{"n": n} for n in range(10)])
        await point.fail("killCursors", errorCode=11602)
        for _ in range(3):
            await abandon_a_cursor(client[database_name]["many"])
            # What the driver does once a second.
            await client._process_periodic_tasks()
        await point.off()
        await admin.drop_database(database_name)
    assert_one_warning(log, "NotPrimaryError: Failing command via 'failCommand' failpoint")
    assert "clusterTime" not in log.getvalue()


async def broken_target() -> bool:
    raise AutoReconnect("the pool is paused")


async def test_a_task_of_the_driver_that_ends_with_an_error_is_one_warning(log: io.StringIO) -> None:
    for _ in range(3):
        executor = AsyncPeriodicExecutor(1, 0.1, broken_target, name="broken")
        executor.open()
        task = executor._task
        assert task is not None
        await until(task.done)
        del executor, task
        gc.collect()
    assert_one_warning(log, "AutoReconnect: the pool is paused")


def test_a_thread_of_the_driver_that_ends_with_an_error_is_one_warning(
    log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    def target() -> bool:
        raise AutoReconnect("the pool is paused")

    for _ in range(3):
        executor = PeriodicExecutor(1, 0.1, target, name="broken")
        executor.open()
        executor.join()
    assert_one_warning(log, "AutoReconnect: the pool is paused")
    assert capfd.readouterr().err == ""


async def test_what_ends_a_task_or_a_thread_of_ours_is_an_error_with_its_traceback(
    log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> None:
        raise AutoReconnect("ours")

    def fail_in_thread() -> None:
        raise ValueError("ours too")

    task = asyncio.create_task(fail())
    await until(task.done)
    del task
    gc.collect()
    thread = threading.Thread(target=fail_in_thread, name="one of ours")
    thread.start()
    thread.join()
    first, second = lines(log)
    assert {first["level"], second["level"]} == {"ERROR"}
    assert "AutoReconnect: ours" in first["exception"]
    assert second["message"] == "the thread one of ours ended with ValueError"
    assert "ValueError: ours too" in second["exception"]
    assert capfd.readouterr().err == ""


async def test_what_hears_of_a_new_primary_and_fails_is_logged_and_not_printed(
    mongodb_uri: str, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("the loop is closed")

    client = open_client(mongodb_uri, "pymongo", on_new_primary=fail)
    await client.admin.command("ping")
    found = await until(lambda: lines(log))
    await client.close()
    assert "RuntimeError: the loop is closed" in found[0]["exception"]
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("impatient")
async def test_a_preparation_that_nobody_waits_for_any_more_fails_without_an_error_in_the_log(
    log: io.StringIO,
) -> None:
    async with Store.connect("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50") as store:
        with pytest.raises(StoreUnavailable):
            await store.prepare_within(timedelta(0))
        preparing = store._preparing
        assert preparing is not None
        await until(preparing.done)
        del preparing
        gc.collect()
    assert lines(log) == []
