"""Prefer: wait=N, without a server: who waits, for how long, and who is not kept."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from starlette.requests import ClientDisconnect

from agent_service.api.access import Access, admit
from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.waiting import Waited, Waiting
from agent_service.context_manager import ContextManager
from agent_service.domain.api_key import Scope
from agent_service.domain.context import Context
from agent_service.domain.errors import StoreError, StoreUnavailable
from agent_service.domain.request import Caller
from agent_service.keys.key_ring import FRESH
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.api import SERVICES, SUBMISSION, assert_problem, calling, make_app, memory_store
from tests.support.api_keys import bearing, stored_key
from tests.support.hand_worker import claim, work_off
from tests.support.waiting import until

LONG = {"Prefer": "wait=60"}


@pytest.fixture
async def store() -> Store:
    store = memory_store()
    await store.prepare()
    return store


@pytest.fixture
def app(store: Store) -> FastAPI:
    return make_app(store)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with calling(app) as client:
        yield client


async def test_who_prefers_to_wait_is_answered_at_the_end(api: httpx2.AsyncClient, store: Store) -> None:
    submitting = asyncio.create_task(api.post("/v1/requests", json=SUBMISSION, headers=LONG))
    async with asyncio.timeout(30):
        attempts: int = await until(lambda: work_off(ContextManager(store)))
        assert attempts == 2
        taken = await submitting
    assert (taken.status_code, taken.json()["status"]) == (200, "completed")
    assert taken.headers["preference-applied"] == "wait=60"
    assert taken.headers["location"] == f"/v1/requests/{taken.json()['id']}"
    assert "retry-after" not in taken.headers
    shown = await api.get(taken.headers["location"], headers=LONG)
    assert (shown.status_code, shown.json()) == (200, taken.json())
    assert shown.headers["preference-applied"] == "wait=60"


async def test_who_waited_in_vain_is_told_how_it_stands(api: httpx2.AsyncClient) -> None:
    brief = {"Prefer": "wait=1", "Idempotency-Key": "k"}
    began = monotonic()
    taken = await api.post("/v1/requests", json=SUBMISSION, headers=brief)
    assert monotonic() - began >= 1
    assert (taken.status_code, taken.json()["status"]) == (202, "accepted")
    assert (taken.headers["preference-applied"], taken.headers["retry-after"]) == ("wait=1", "1")
    shown = await api.get(taken.headers["location"], headers=brief)
    assert (shown.status_code, shown.json()) == (200, taken.json())
    assert (shown.headers["preference-applied"], shown.headers["retry-after"]) == ("wait=1", "1")


async def test_a_replay_of_what_has_ended_is_200_only_for_who_asked_for_the_end(
    api: httpx2.AsyncClient, store: Store
) -> None:
    key = {"Idempotency-Key": "k"}
    await api.post("/v1/requests", json=SUBMISSION, headers=key)
    await work_off(ContextManager(store))
    plain = await api.post("/v1/requests", json=SUBMISSION, headers=key)
    preferring = await api.post("/v1/requests", json=SUBMISSION, headers=key | LONG)
    assert [each.status_code for each in (plain, preferring)] == [202, 200]
    assert [each.headers["idempotency-replayed"] for each in (plain, preferring)] == ["true"] * 2
    assert plain.json() == preferring.json()


async def test_the_end_of_a_retry_and_of_a_cancellation_can_be_waited_for(
    api: httpx2.AsyncClient, store: Store
) -> None:
    path = (await api.post("/v1/requests", json=SUBMISSION)).headers["location"]
    contexts = ContextManager(store)
    await work_off(contexts, failing=("check",))
    retrying = asyncio.create_task(api.post(f"{path}/retry", headers=LONG | {"Idempotency-Key": "r"}))
    async with asyncio.timeout(30):
        running: list[Context] = await until(lambda: claim(contexts, "analysis"))
        path = f"/v1/requests/{running[0].request_id}"
        cancelling = asyncio.create_task(api.post(f"{path}/cancel", headers=LONG))

        async def flagged() -> bool | None:
            found = await store.contexts.of_request(running[0].request_id)
            return any(context.cancel_requested for context in found)

        is_flagged: bool = await until(flagged)
        assert is_flagged
        await contexts.hand_back(running)
        answers = await asyncio.gather(retrying, cancelling)
    assert [each.status_code for each in answers] == [200, 200]
    assert [each.json()["status"] for each in answers] == ["cancelled", "cancelled"]


async def test_an_unknown_request_is_not_waited_for(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.get("/v1/requests/none", headers=LONG), 404, "request_not_found")


async def test_a_server_that_stops_answers_how_it_stands(app: FastAPI, api: httpx2.AsyncClient) -> None:
    path = (await api.post("/v1/requests", json=SUBMISSION)).headers["location"]
    waiting = [asyncio.create_task(api.get(path, headers=LONG)) for _ in range(3)]
    async with asyncio.timeout(30):
        await asyncio.wait(waiting, timeout=0.1)
        app.state.draining.set()
        answers = await asyncio.gather(*waiting, api.get(path, headers=LONG))
    assert {(each.status_code, each.json()["status"]) for each in answers} == {(200, "accepted")}
    assert all("preference-applied" not in each.headers for each in answers)


async def test_whose_key_is_revoked_meanwhile_is_told_nothing_more(
    api: httpx2.AsyncClient, store: Store
) -> None:
    key, text = await stored_key(store)
    path = (await api.post("/v1/requests", json=SUBMISSION, headers=bearing(text))).headers["location"]
    asking = asyncio.create_task(api.get(path, headers=LONG | bearing(text)))
    async with asyncio.timeout(30):
        # Longer than what is known of a key counts without asking again.
        await asyncio.wait({asking}, timeout=FRESH.total_seconds() + 0.5)
        await store.keys.revoke(key.id, datetime.now(UTC))
        await work_off(ContextManager(store))
        shown = await asking
    assert (shown.status_code, shown.json()["status"]) == (200, "accepted")
    assert {step["output"] for step in shown.json()["steps"]} == {None}


class Desk:
    """A `Waiting` by hand, for calls that never were on a wire."""

    def __init__(self, store: Store, most: int = 1) -> None:
        self.app = make_app(store)
        self.requests = RequestService(store, max_attempts=SERVICES)
        self.waiting = Waiting(self.requests, BoundedCalls(), draining=asyncio.Event(), most=most)

    async def submitted(self) -> RequestView:
        accepted = await self.requests.submit(SUBMISSION)
        return RequestView(request=accepted.request, contexts=())

    def wait(
        self, view: RequestView, messages: asyncio.Queue[Any], *, seconds: int = 60
    ) -> asyncio.Task[Waited]:
        headers = [(b"prefer", f"wait={seconds}".encode())]
        scope = {"type": "http", "headers": headers, "app": self.app}
        return asyncio.create_task(self._wait(HttpRequest(scope, receive=messages.get), view))

    async def _wait(self, call: HttpRequest, view: RequestView) -> Waited:
        await admit(call, Scope.READ)
        return await self.waiting.for_end(call, view, Caller())


async def test_a_client_that_goes_away_makes_room_for_another_one(store: Store) -> None:
    desk = Desk(store)
    view = await desk.submitted()
    messages: asyncio.Queue[Any] = asyncio.Queue()
    first = desk.wait(view, messages)
    async with asyncio.timeout(30):
        await asyncio.wait({first}, timeout=0.1)
        # There is room for one, so who comes second is answered at once.
        second = await desk.wait(view, asyncio.Queue())
        assert (second.view, second.headers) == (view, {})
        messages.put_nowait({"type": "http.disconnect"})
        with pytest.raises(ClientDisconnect):
            await first
        assert (await desk.wait(view, asyncio.Queue(), seconds=1)).headers == {"Preference-Applied": "wait=1"}


async def test_what_is_stored_is_told_although_it_cannot_be_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(store)
    view = await desk.submitted()

    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store.requests, "status", fail)
    monkeypatch.setattr(store.requests, "get", fail)
    began = monotonic()
    assert (await desk.wait(view, asyncio.Queue(), seconds=1)).view == view
    assert monotonic() - began >= timedelta(seconds=1).total_seconds()


@pytest.mark.parametrize("fault", [RuntimeError("bug"), StoreError("refused")], ids=lambda fault: str(fault))
async def test_what_is_stored_is_told_although_the_key_cannot_be_checked_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, warnings: list[str], fault: Exception
) -> None:
    desk = Desk(store)
    view = await desk.submitted()

    async def fail(*_: object) -> bool:
        raise fault

    monkeypatch.setattr(Access, "holds", fail)
    assert (await desk.wait(view, asyncio.Queue(), seconds=1)).view == view
    # That a database in memory cannot wake anybody is a warning too.
    assert [str(fault) in line for line in warnings if line.startswith("ERROR")] == [True]
