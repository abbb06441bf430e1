"""Fixtures of all tests: a real MongoDB for whoever asks, and an empty database for each test."""

import gc
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import settings
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.local.mongod import start_mongod
from agent_service.store import Store
from agent_service.testing.databases import empty_database
from tests.support.log_lines import log_lines
from tests.support.shared_memory import data_folder

# A machine that is busy with something else is no reason for a property to fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# Before the choice of `-m` is made.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs with each driver is tried with Motor in `make test-all` only, but for a chosen few."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "motor" in parameters and item.get_closest_marker("conformance") is None:
            item.add_marker(pytest.mark.exhaustive)


def pytest_collection_finish() -> None:
    """Thousands of tests and all modules stay to the end; no garbage collection need look at them again."""
    gc.collect()
    gc.freeze()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a one-node replica set that lives as long as the test run; has fail points."""
    with data_folder(tmp_path_factory.mktemp("mongod")) as folder:
        server = await start_mongod(folder, extra_arguments=("--setParameter", "enableTestCommands=1"))
        yield server.uri
        await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shared_database(mongodb_uri: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The database of all tests of this process."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[f"test_{uuid.uuid4().hex}"]


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


@pytest_asyncio.fixture(loop_scope="session")
async def database_name(
    request: pytest.FixtureRequest, _shared_database: AsyncDatabase[dict[str, Any]]
) -> AsyncIterator[str]:
    """
    The name of an empty database, which may have its collections and indexes already.

    They are of the tests before: making them anew for each test would cost a hundred times as much. A test
    that has to see how they come to be is marked with `fresh_database`, and gets a name that was never used.
    """
    if request.node.get_closest_marker("fresh_database") is None:
        yield _shared_database.name
        await empty_database(_shared_database)
    else:
        name = f"fresh_{uuid.uuid4().hex}"
        yield name
        await _shared_database.client.drop_database(name)


@pytest.fixture
async def raw(mongodb_uri: str, database_name: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The same database by hand, for what a test damages or counts."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client[database_name]


@pytest.fixture
async def store(mongodb_uri: str, database_name: str) -> AsyncIterator[Store]:
    """A prepared store on an empty database."""
    async with Store.connect(mongodb_uri, database=database_name) as connected:
        await connected.prepare()
        yield connected
