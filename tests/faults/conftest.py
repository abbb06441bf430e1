"""Fixtures of the scenarios: a set of three MongoDB servers, whole again before each test."""

import gc
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.support.shared_memory import data_folder

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    The driver may leave a socket behind that it was connecting to a server which was killed in that moment.

    Everywhere else whatever is left behind but such a socket fails the test.
    """
    forgiving = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(forgiving)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def replica_set_of_session(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReplicaSet]:
    """Three servers that live as long as the test run; use `replica_set`."""
    with data_folder(tmp_path_factory.mktemp("replica_set")) as folder:
        replica_set = ReplicaSet(folder)
        try:
            await replica_set.start()
            yield replica_set
        finally:
            replica_set.stop()


@pytest.fixture
async def replica_set(replica_set_of_session: ReplicaSet) -> AsyncIterator[ReplicaSet]:
    """The set of three servers, whatever the test before did to it undone."""
    await replica_set_of_session.heal()
    yield replica_set_of_session
    # What the driver left behind is found here, and not in the middle of some other test.
    gc.collect()


@pytest.fixture
async def fault_database(replica_set: ReplicaSet) -> AsyncIterator[str]:
    """The name of a fresh database in the set."""
    name = f"faults_{uuid.uuid4().hex}"
    yield name
    await replica_set.heal()
    await replica_set.drop(name)


@pytest.fixture
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RecordingService]:
    """A base service that remembers its calls."""
    log = tmp_path_factory.mktemp("service") / "calls.jsonl"
    async with RecordingService(log) as service:
        yield service
