"""Fixtures of the tests of the store: each driver, and the commands that a store sends."""

from collections.abc import AsyncIterator

import pytest
from pymongo import AsyncMongoClient

from agent_service.store import Store
from tests.support.explained_commands import CommandRecorder, Document


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
