"""Fixtures of the tests on a real MongoDB: each driver, the commands of a store, and what stands on one."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from agent_service.context_manager import ContextManager
from agent_service.local.free_port import free_port
from agent_service.replanner import Replanner
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store, operations
from tests.support.explained_commands import CommandRecorder, Document, Plan, Watch, explain
from tests.support.haystack import prepare, restore_needles
from tests.support.preparing import Prepare
from tests.support.rescuers import a_replanner, a_rescuer


@pytest.fixture(params=["pymongo", "motor"])
async def any_store(
    request: pytest.FixtureRequest,
    mongodb_uri: str,
    database_name: str,
    prepared: Prepare,
) -> AsyncIterator[Store]:
    """A prepared store on an empty database, once with each driver."""
    async with Store.connect(mongodb_uri, database=database_name, driver=request.param) as connected:
        await prepared(connected)
        yield connected


@pytest.fixture(name="free_port")
def a_free_port() -> int:
    """A port on which nobody listens."""
    return free_port()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call to MongoDB may take longer than half a second."""
    bounded = operations._bounded
    half = timedelta(seconds=0.5)
    monkeypatch.setattr(operations, "_bounded", lambda limit: bounded(min(limit, half)))


@pytest.fixture
def requests(store: Store) -> RequestService:
    """What takes requests on `store`."""
    return RequestService(store)


@pytest.fixture
def contexts(store: Store) -> ContextManager:
    """The contexts of `store`."""
    return ContextManager(store)


@pytest.fixture
def rescuer(store: Store, contexts: ContextManager) -> Rescuer:
    """One that repairs everything with its next sweep."""
    return a_rescuer(store, contexts)


@pytest.fixture
def replanner(store: Store, contexts: ContextManager) -> Replanner:
    """One that plans with its first look whatever is not planned."""
    return a_replanner(store, contexts)


@pytest.fixture
def recorder() -> CommandRecorder:
    """What `recorded_store` sends."""
    return CommandRecorder()


@pytest.fixture
async def recorded_store(
    mongodb_uri: str, database_name: str, recorder: CommandRecorder
) -> AsyncIterator[Store]:
    """A prepared store on an empty database whose commands are recorded from here on."""
    client = AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder])
    async with client, Store(client[database_name]) as connected:
        await connected.prepare()
        recorder.sent.clear()
        yield connected


@pytest.fixture(scope="module")
def _haystack(mongodb_uri: str) -> Iterator[Database[Document]]:
    name = f"haystack_{uuid.uuid4().hex}"
    with MongoClient[Document](mongodb_uri) as client:
        prepare(client, name)
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def haystack(_haystack: Database[Document]) -> str:
    """The name of a database with thousands of documents that no query of these tests is about."""
    return _haystack.name


@pytest.fixture
def watch(mongodb_uri: str, _haystack: Database[Document], recorder: CommandRecorder) -> Watch:
    """Runs something on the haystack, and explains every statement that it sent, on what it found there."""

    async def run_and_explain(run: Callable[[Store], Awaitable[Any]]) -> list[Plan]:
        async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder]) as client:
            await run(Store(client[_haystack.name]))
        restore_needles(_haystack)
        async with AsyncMongoClient[Document](mongodb_uri) as client:
            explaining = client[_haystack.name]
            commands = [command for name, command in recorder.sent if name != "endSessions"]
            return [plan for command in commands for plan in await explain(explaining, command)]

    return run_and_explain
