"""Fixtures of the tests on a real MongoDB: each driver, the commands of a store, and what stands on one."""

import socket
from collections.abc import AsyncIterator

import pytest
from pymongo import AsyncMongoClient

from agent_service.context_manager import ContextManager
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.rescuers import a_rescuer


@pytest.fixture(params=["pymongo", "motor"])
async def any_store(
    request: pytest.FixtureRequest, mongodb_uri: str, database_name: str
) -> AsyncIterator[Store]:
    """A prepared store on a fresh database, once with each driver."""
    async with Store.connect(mongodb_uri, database=database_name, driver=request.param) as connected:
        await connected.prepare()
        yield connected
        await connected.drop()


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
def recorder() -> CommandRecorder:
    """What `recorded_store` sends."""
    return CommandRecorder()


@pytest.fixture
async def recorded_store(
    mongodb_uri: str, database_name: str, recorder: CommandRecorder
) -> AsyncIterator[Store]:
    """A prepared store on a fresh database whose commands are recorded from here on."""
    client = AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder])
    async with client, Store(client[database_name]) as connected:
        await connected.prepare()
        recorder.sent.clear()
        yield connected
        await connected.drop()
