"""Fixtures of all tests: a real MongoDB for whoever asks, and a fresh database for each test."""

import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import settings
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.local.mongod import start_mongod
from agent_service.store import Store
from tests.support.log_lines import log_lines

# A machine that is busy with something else is no reason for a property to fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a one-node replica set that lives as long as the test run; has fail points."""
    folder: Path = tmp_path_factory.mktemp("mongod")
    server = await start_mongod(folder, extra_arguments=("--setParameter", "enableTestCommands=1"))
    yield server.uri
    await server.stop()


@pytest.fixture(autouse=True)
def _errors_of_threads_are_seen() -> Iterator[None]:
    """By the test runner, also after a test in which logging was configured, which takes them over."""
    hook = threading.excepthook
    yield
    threading.excepthook = hook


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The lines that are logged as warnings or worse."""
    with log_lines() as lines:
        yield lines


@pytest.fixture
def database_name() -> str:
    """A name that no other test uses."""
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
async def raw(mongodb_uri: str, database_name: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The same database by hand, for what a test damages or counts."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client[database_name]


@pytest.fixture
async def store(mongodb_uri: str, database_name: str) -> AsyncIterator[Store]:
    """A prepared store on a fresh database, which is dropped afterwards."""
    async with Store.connect(mongodb_uri, database=database_name) as connected:
        await connected.prepare()
        yield connected
        await connected.drop()
