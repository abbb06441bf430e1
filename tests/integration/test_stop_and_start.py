"""Starting and stopping at awkward moments: nothing runs on, waits for ever or is kept alive."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service import upkeep
from agent_service.domain.request import RequestStatus
from agent_service.store import Store, database
from agent_service.upkeep import Upkeep
from tests.support.fail_points import fragile_store
from tests.support.waiting import until
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    CommandLog,
    HandlerWorker,
    echo,
    ended,
    running,
    submit,
)

UPKEEP = ["loop lag", "rescuer", "scheduler"]
#: How long MongoDB does not answer, which is more than whoever stops waits.
SILENT_SECONDS = 5


def tasks_of_upkeep() -> list[str]:
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name() in UPKEEP)


def tasks_of_workers() -> list[str]:
    return sorted(
        task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("generation ")
    )


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A port that takes connections and never says anything."""
    connected: list[asyncio.StreamWriter] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in connected:
        writer.close()
    await server.wait_closed()


@pytest.mark.parametrize("stops", [1, 2, 3])
async def test_stopping_one_worker_several_times_at_once_takes_nothing_from_the_other(
    store: Store, stops: int
) -> None:
    first, second = HandlerWorker(store, echo), HandlerWorker(store, echo)
    async with running(second):
        await first.start()
        await asyncio.gather(*(first.stop() for _ in range(stops)))
        assert tasks_of_upkeep() == UPKEEP
        assert len(tasks_of_workers()) == 6
        await first.stop()
        assert tasks_of_upkeep() == UPKEEP
        assert (await ended(store, await submit(store))).status is RequestStatus.COMPLETED
        await asyncio.gather(second.stop(), second.stop())
        assert tasks_of_upkeep() == tasks_of_workers() == []


async def test_a_stop_returns_only_when_all_that_runs_has_ended(store: Store) -> None:
    worker = HandlerWorker(store, echo)
    await worker.start()
    stopping = asyncio.create_task(worker.stop())
    await worker.stop()
    assert tasks_of_upkeep() == tasks_of_workers() == []
    await stopping


async def test_an_upkeep_that_does_not_run_can_be_stopped_and_started_afterwards(store: Store) -> None:
    upkeep_of_store = Upkeep.of(store)
    await upkeep_of_store.stop()
    upkeep_of_store.start()
    assert tasks_of_upkeep() == UPKEEP
    await upkeep_of_store.stop()
    assert tasks_of_upkeep() == []


async def test_a_stop_while_the_start_waits_for_mongodb_makes_the_start_return(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Closing the store waits for the question that was asked.
    monkeypatch.setattr(database, "CALLER_LIMIT", timedelta(seconds=6))
    uri = f"mongodb://127.0.0.1:{silent_port}/?directConnection=true"
    async with asyncio.timeout(DEADLINE_SECONDS), Store.connect(uri) as store:
        worker = HandlerWorker(store, echo)
        starting = asyncio.create_task(worker.start())
        await until(lambda: store._preparing is not None)
        began = time.monotonic()
        await worker.stop()
        await starting
        assert time.monotonic() - began < 5
        assert tasks_of_upkeep() == tasks_of_workers() == []
        # And it may be tried again.
        starting = asyncio.create_task(worker.start())
        await until(lambda: store._preparing is not None)
        await asyncio.gather(worker.stop(), worker.stop())
        await starting
    assert tasks_of_upkeep() == tasks_of_workers() == []


@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_at_the_moment_when_the_start_goes_on_leaves_nothing_running(
    store: Store, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    ready = asyncio.Event()
    monkeypatch.setattr(store, "wait_until_ready", ready.wait)
    worker = HandlerWorker(store, echo)
    starting = asyncio.create_task(worker.start())
    await until(lambda: worker._starting is not None)
    ready.set()
    for _ in range(turns):
        # One turn of the event loop.
        await asyncio.sleep(0)
    await worker.stop()
    await starting
    assert tasks_of_upkeep() == tasks_of_workers() == []


async def test_the_upkeep_stops_in_time_although_mongodb_does_not_answer(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LAST_WRITES", timedelta(milliseconds=200))
    log = CommandLog()
    async with fragile_store(mongodb_uri, database_name, event_listeners=[log]) as (store, point):
        await store.prepare()
        await point.fail("find", blockConnection=True, blockTimeMS=SILENT_SECONDS * 1_000)
        upkeep_of_store = Upkeep.of(store)
        upkeep_of_store.start()
        await until(lambda: [name for name, _, _ in log.sent].count("find") >= 2)
        async with asyncio.timeout(SILENT_SECONDS * 0.8):
            await upkeep_of_store.stop()
        assert tasks_of_upkeep() == []


async def test_a_store_is_let_go_when_its_last_worker_has_stopped(
    mongodb_uri: str, database_name: str
) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        store = Store(client[database_name])
        gone = weakref.ref(store)
        async with running(HandlerWorker(store, echo), HandlerWorker(store, echo)):
            assert (await ended(store, await submit(store))).status is RequestStatus.COMPLETED
        await store.close()
        del store
        gc.collect()
        assert gone() is None
