"""Who reads a stream of events is asked again while it goes on."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from agent_service.api.access import Access
from agent_service.domain.api_key import ApiKey, Scope
from agent_service.domain.errors import StoreUnavailable
from agent_service.keys.key_file import KeyFile
from agent_service.keys.key_ring import KeyRing
from agent_service.local.servers import serve
from agent_service.store import Store
from tests.support.api import SUBMISSION, make_app
from tests.support.api_keys import a_key, bearing, stored_key

#: Far beyond what MongoDB's answers are remembered for, in seconds.
LIMIT = 60


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx2.AsyncClient]:
    app: FastAPI = make_app(store)
    async with serve(app) as server, httpx2.AsyncClient(base_url=server.base_url, timeout=LIMIT) as client:
        yield client


class Lines:
    """The lines of an open stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()

    async def until(self, wanted: str) -> None:
        async with asyncio.timeout(LIMIT):
            async for line in self._lines:
                if line == wanted:
                    return
        raise AssertionError(f"the stream ended without {wanted!r}")

    async def rest(self) -> list[str]:
        async with asyncio.timeout(LIMIT):
            return [line async for line in self._lines if line]


async def test_a_stream_ends_within_seconds_of_its_key_being_revoked(
    store: Store, api: httpx2.AsyncClient
) -> None:
    key, text = await stored_key(store)
    taken = await api.post("/v1/requests", json=SUBMISSION, headers=bearing(text))
    path = f"{taken.headers['location']}/events"
    async with api.stream("GET", path, headers=bearing(text)) as response:
        assert response.status_code == 200
        lines = Lines(response)
        await lines.until("event: request.accepted")
        await store.keys.revoke(key.id, datetime.now(UTC))
        await lines.until("event: server.unauthorized")
        assert len(await lines.rest()) == 1
    assert (await api.get(path, headers=bearing(text))).status_code == 401


async def test_a_stream_without_a_key_ends_once_the_first_key_is_made(
    store: Store, api: httpx2.AsyncClient
) -> None:
    taken = await api.post("/v1/requests", json=SUBMISSION)
    assert taken.status_code == 202
    async with api.stream("GET", f"{taken.headers['location']}/events") as response:
        lines = Lines(response)
        await lines.until("event: request.accepted")
        await stored_key(store)
        await lines.until("event: server.unauthorized")
    assert (await api.get(taken.headers["location"])).status_code == 401


async def test_while_mongodb_does_not_answer_nobody_is_turned_away_from_a_stream(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = await stored_key(store)
    asked = asyncio.Event()
    answers = iter([StoreUnavailable("away"), key, None])

    async def find(_: str) -> ApiKey | None:
        answer = next(answers)
        if isinstance(answer, StoreUnavailable):
            asked.set()
            raise answer
        return answer

    ring = KeyRing(store)
    monkeypatch.setattr(ring, "find", find)
    access = Access(organization_id="acme", scope=Scope.READ, may_read=True, keys=ring, text=text)
    async with asyncio.timeout(LIMIT):
        await access.wait_until_withdrawn(check_every=timedelta(milliseconds=1))
    assert asked.is_set()
    assert list(answers) == []


@pytest.mark.parametrize("changes", [{"scopes": ["submit"]}, {"organization_id": "other"}], ids=str)
async def test_a_stream_ends_whose_key_in_the_file_does_not_open_it_any_more(
    store: Store, tmp_path: Path, changes: dict[str, object]
) -> None:
    file = KeyFile(tmp_path / "api_keys.jsonl")
    key, text = a_key()
    file.add(key)
    ring = KeyRing(store, file=file)
    access = Access(
        organization_id=key.organization_id, scope=Scope.READ, may_read=True, keys=ring, text=text
    )
    assert await access.holds()
    file.path.write_text(json.dumps(json.loads(file.path.read_text()) | changes))
    assert await ring.find(text) is not None
    async with asyncio.timeout(LIMIT):
        await access.wait_until_withdrawn(check_every=timedelta(milliseconds=1))


async def test_what_is_shown_of_an_access_is_not_its_key(store: Store) -> None:
    _, text = await stored_key(store)
    access = Access(organization_id="acme", scope=Scope.READ, may_read=True, keys=KeyRing(store), text=text)
    assert text not in repr(access)
