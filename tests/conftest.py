"""Fixtures of all tests: a real MongoDB for whoever asks, and an empty database for each test."""

import asyncio
import gc
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore2
import pytest
import pytest_asyncio
from hypothesis import settings
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from agent_service.local.mongod import start_mongod
from agent_service.store import Store
from agent_service.testing.databases import empty_database
from tests.support.log_lines import log_lines
from tests.support.preparing import Prepare
from tests.support.shared_memory import data_folder

# A machine that is busy with something else is no reason for a property to fail.
settings.register_profile("untimed", deadline=None)
settings.register_profile("quick", settings.get_profile("untimed"), max_examples=30)

#: Parameters of tests that run with each driver, or with each HTTP client that a caller may bring.
_OTHERS = frozenset({"motor", "httpx", "httpx2"})


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried with fewer examples where what is exhaustive is left out."""
    settings.load_profile("quick" if "not exhaustive" in config.option.markexpr else "untimed")


# Before the choice of `-m` is made.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Motor, and clients that a caller brings, are tried in `make test-all` only, but for a chosen few."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        texts = {parameter for parameter in parameters if isinstance(parameter, str)}
        if texts & _OTHERS and item.get_closest_marker("conformance") is None:
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


@dataclass
class SharedDatabase:
    """The database of all tests of this process, and whether it has all that a prepared one has."""

    database: AsyncDatabase[dict[str, Any]]
    is_prepared: bool = False


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shared(mongodb_uri: str) -> AsyncIterator[SharedDatabase]:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        yield SharedDatabase(client[f"test_{uuid.uuid4().hex}"])


@pytest.fixture(autouse=True, scope="session")
def _certificates_are_read_once() -> Iterator[None]:
    """Each HTTP client would spend 60 ms of processor time on a hundred of them, and most speak no TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield


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
async def database_name(request: pytest.FixtureRequest, _shared: SharedDatabase) -> AsyncIterator[str]:
    """
    The name of an empty database, which may have its collections and indexes already.

    They are of the tests before: making them anew for each test would cost a hundred times as much. A test
    that has to see how they come to be is marked with `fresh_database`, and gets a name that was never used.
    """
    if request.node.get_closest_marker("fresh_database") is None:
        yield _shared.database.name
        _shared.is_prepared = await empty_database(_shared.database)
    else:
        name = f"fresh_{uuid.uuid4().hex}"
        yield name
        await _drop_database(_shared.database.client, name)


@retry(retry=retry_if_exception_type(AutoReconnect), stop=stop_after_attempt(2), reraise=True)
async def _drop_database(client: AsyncMongoClient[dict[str, Any]], name: str) -> None:
    # The loop of this client stands still while a test runs: after a long one its monitor finds that it heard
    # nothing for too long, and breaks off what begins at that moment.
    await client.drop_database(name)


@pytest.fixture
def prepared(database_name: str, _shared: SharedDatabase) -> Prepare:
    """Prepares a store; where the database was left prepared by the test before, only its clock is read."""

    async def prepare(store: Store) -> None:
        if _shared.is_prepared and database_name == _shared.database.name:
            store._preparing = asyncio.create_task(store.measure_clock())
            for sender in (store.notifier._work, store.notifier._events):
                sender._capped = True
        await store.prepare()

    return prepare


@pytest.fixture
async def raw(mongodb_uri: str, database_name: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The same database by hand, for what a test damages or counts."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client[database_name]


@pytest.fixture
async def store(mongodb_uri: str, database_name: str, prepared: Prepare) -> AsyncIterator[Store]:
    """A prepared store on an empty database."""
    async with Store.connect(mongodb_uri, database=database_name) as connected:
        await prepared(connected)
        yield connected
