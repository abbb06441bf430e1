"""
Fixtures of pytest, for tests of programs that use agent_service. In a `conftest.py`:

    pytest_plugins = ["agent_service.testing.fixtures"]
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

try:
    import pytest
    import pytest_asyncio
except ImportError as error:
    raise ImportError(
        f"agent_service.testing.fixtures needs {error.name}; install agent-service[testing]"
    ) from error

from agent_service.store import Store
from agent_service.testing.base_service import ScriptedBaseService
from agent_service.testing.databases import emptied_store
from agent_service.testing.mongodb import URI_VARIABLE, temporary_mongod
from agent_service.testing.moved_clock import MovedClock, movable_mongod

T = TypeVar("T")


@contextmanager
def _entered(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """The same for a fixture of the session, in a loop of its own: those of the tests come and go."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        entered: Coroutine[Any, Any, T] = manager.__aenter__()
        yield runner.run(entered)
        leaving: Coroutine[Any, Any, Any] = manager.__aexit__(None, None, None)
        runner.run(leaving)


@pytest.fixture(scope="session")
def agent_service_mongodb() -> Iterator[str]:
    """
    The address of the MongoDB of this test run: that in AGENT_SERVICE_TEST_MONGODB_URI, else an embedded one.

    Each process of pytest-xdist has an embedded one of its own.
    """
    if configured := os.environ.get(URI_VARIABLE):
        yield configured
        return
    with _entered(temporary_mongod()) as server:
        yield server.uri


@pytest.fixture(scope="session")
def _movable_mongodb() -> Iterator[tuple[str, MovedClock]]:
    """A server whose clock can be moved, apart from the other: a clock cannot be moved back."""
    with _entered(movable_mongod()) as (server, clock):
        yield server.uri, clock


@pytest.fixture
def agent_service_mongodb_uri(request: pytest.FixtureRequest) -> str:
    """The address of the MongoDB of this test: one whose clock can be moved where the test does that."""
    if "moved_clock" in request.fixturenames:
        movable: tuple[str, MovedClock] = request.getfixturevalue("_movable_mongodb")
        return movable[0]
    uri: str = request.getfixturevalue("agent_service_mongodb")
    return uri


@pytest.fixture(scope="session")
def agent_service_database() -> str:
    """The name of the database: one for each process, emptied before each test."""
    return f"agent_service_test_{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def _drop_database(agent_service_mongodb: str, agent_service_database: str) -> Iterator[None]:
    """Leave nothing behind on a server that goes on; an embedded one goes with all it has."""
    yield
    if URI_VARIABLE in os.environ:
        asyncio.run(_drop(agent_service_mongodb, agent_service_database))


async def _drop(uri: str, database: str) -> None:
    async with Store.connect(uri, database=database) as store:
        await store.drop()


@pytest.fixture
def _database_of_test(request: pytest.FixtureRequest, agent_service_database: str) -> str:
    if "moved_clock" not in request.fixturenames:
        request.getfixturevalue("_drop_database")
    return agent_service_database


@pytest_asyncio.fixture
async def agent_service_store(agent_service_mongodb_uri: str, _database_of_test: str) -> AsyncIterator[Store]:
    """A store on a prepared and otherwise empty database."""
    async with emptied_store(agent_service_mongodb_uri, database=_database_of_test) as store:
        yield store


@pytest_asyncio.fixture
async def base_service() -> AsyncIterator[ScriptedBaseService]:
    """A base service on loopback that does what the test tells it."""
    async with ScriptedBaseService() as service:
        yield service


@pytest.fixture
def moved_clock(_movable_mongodb: tuple[str, MovedClock], agent_service_store: Store) -> Iterator[MovedClock]:
    """The clock of the test's MongoDB, which `agent_service_store` follows. It never goes back."""
    _, clock = _movable_mongodb
    yield clock.follow(agent_service_store)
    clock.forget(agent_service_store)
