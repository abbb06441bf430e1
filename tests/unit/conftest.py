"""Fixtures of the tests without a server: the store is in memory, and the API in this process."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest

from agent_service.client import pace
from agent_service.store import Store
from tests.support.api import calling, make_app, memory_store


@pytest.fixture
def store() -> Store:
    """A store without a server."""
    return memory_store()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the API over `store`."""
    async with calling(make_app(store)) as client:
        yield client


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients repeat and come back at once."""
    monkeypatch.setattr(pace, "FIRST_PAUSE", timedelta(0))
