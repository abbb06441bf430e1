"""Events over a real socket, from a real MongoDB."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from agent_service.context_manager import ContextManager
from agent_service.domain.events import Chunk
from agent_service.local.servers import serve
from agent_service.store import Store
from agent_service.store.notifier import Topic
from tests.support.api import SUBMISSION, assert_problem, make_app
from tests.support.hand_worker import claim, end, success, work_off
from tests.support.open_subscriptions import subscriptions_of
from tests.support.waiting import until


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One event as a client reads it."""

    type: str
    id: str | None
    data: dict[str, Any]


@pytest.fixture
def app(store: Store) -> FastAPI:
    return make_app(store)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(app) as server, httpx2.AsyncClient(base_url=server.base_url, timeout=20) as client:
        yield client


@asynccontextmanager
async def reading(api: httpx2.AsyncClient, path: str, **options: Any) -> AsyncIterator[AsyncIterator[Frame]]:
    async with api.stream("GET", f"{path}/events", **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == (
            "no-cache",
            "no",
        )
        yield frames(response)


async def frames(response: httpx2.Response) -> AsyncIterator[Frame]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Frame(type=fields["event"], id=fields.get("id"), data=json.loads(fields["data"]))
            fields = {}


async def submit(api: httpx2.AsyncClient) -> str:
    taken = await api.post("/v1/requests", json=SUBMISSION)
    assert taken.status_code == 202, taken.text
    return str(taken.headers["location"])


async def finish(contexts: ContextManager) -> None:
    """Work off the request; its first step streams two pieces."""
    (draft,) = await claim(contexts, "generation")
    for seq, delta in ((1, "a\u2028"), (2, "b\n\n")):
        await contexts.store_chunk(
            Chunk(context_id=draft.id, attempt=draft.attempt, seq=seq, delta=delta, at=contexts.now())
        )
    await end(contexts, draft, success(contexts, draft))
    assert await work_off(contexts) == 1


async def test_a_reader_sees_all_of_a_request_while_it_happens(api: httpx2.AsyncClient, store: Store) -> None:
    path = await submit(api)
    async with asyncio.timeout(30), reading(api, path) as stream:
        first = [await anext(stream) for _ in range(2)]
        assert [frame.type for frame in first] == ["request.accepted", "step.pending"]
        await finish(ContextManager(store))
        seen = first + [frame async for frame in stream]
    by_step = {
        step: [frame.type for frame in seen if frame.data.get("step") == step] for step in ("draft", "check")
    }
    assert by_step["draft"][:2] == ["step.pending", "step.running"]
    assert by_step["draft"][-1] == "step.completed"
    assert by_step["check"] == ["step.pending", "step.running", "step.completed"]
    assert "".join(frame.data.get("delta", "") for frame in seen) == "a\u2028b\n\n"
    assert (seen[-1].type, seen[-1].data["request_id"]) == ("request.completed", path.split("/")[-1])
    assert len({frame.id for frame in seen}) == len(seen)

    shown = await api.get(path)
    assert (shown.json()["status"], "retry-after" in shown.headers) == ("completed", False)
    assert [step["output"]["text"] for step in shown.json()["steps"]] == ["draft", "check"]


@pytest.mark.parametrize("way", ["header", "query", "both"])
async def test_a_reader_goes_on_after_any_event_and_gets_the_rest(
    api: httpx2.AsyncClient, store: Store, way: str
) -> None:
    path = await submit(api)
    await finish(ContextManager(store))
    async with reading(api, path) as stream:
        everything = [frame async for frame in stream]
    for index, frame in enumerate(everything[:-1]):
        assert frame.id is not None
        options: dict[str, Any] = {"headers": {"Last-Event-ID": frame.id}}
        if way == "query":
            options = {"params": {"after": frame.id}}
        elif way == "both":
            options["params"] = {"after": "@0"}
        async with reading(api, path, **options) as stream:
            assert [later async for later in stream] == everything[index + 1 :]
    done = await api.get(f"{path}/events", headers={"Last-Event-ID": everything[-1].id or ""})
    assert (done.status_code, done.content) == (204, b"")


@pytest.mark.parametrize(
    "cursor", ["draft:1.1", "@0,draft", "@0,draft:x.1", "@0,other:1.1", "@0,x\ndata: 1:1.1", "@end,other:end"]
)
async def test_a_cursor_that_is_none_of_this_request_is_refused(api: httpx2.AsyncClient, cursor: str) -> None:
    path = await submit(api)
    assert_problem(await api.get(f"{path}/events", params={"after": cursor}), 400, "invalid_cursor")


async def test_what_cannot_be_streamed_is_refused_before_the_stream(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.get("/v1/requests/none/events"), 404, "request_not_found")
    assert_problem(
        await api.get("/v1/requests/none/events", params={"after": "@end"}), 404, "request_not_found"
    )
    path = await submit(api)
    for accept in ("application/json;q=0", "text/event-stream;q=0", "text/html, image/*"):
        refused = await api.get(f"{path}/events", headers={"Accept": accept})
        assert_problem(refused, 406, "not_acceptable")


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/html, text/*; q=0.5"])
async def test_a_reader_may_ask_for_a_stream_in_any_way(
    api: httpx2.AsyncClient, store: Store, accept: str
) -> None:
    path = await submit(api)
    await finish(ContextManager(store))
    async with reading(api, path, headers={"Accept": accept}) as stream:
        assert (await anext(stream)).type == "request.accepted"


async def test_a_reader_that_goes_away_is_forgotten(api: httpx2.AsyncClient, store: Store) -> None:
    path = await submit(api)
    async with reading(api, path) as stream:
        assert (await anext(stream)).type == "request.accepted"
        assert [set(subscription.topics) for subscription in subscriptions_of(store)] == [{Topic.PROGRESS}]
    await until(lambda: not subscriptions_of(store))


async def test_a_stopping_process_tells_its_readers_to_go_elsewhere(
    api: httpx2.AsyncClient, app: FastAPI
) -> None:
    path = await submit(api)
    async with asyncio.timeout(20), reading(api, path) as stream:
        first = [await anext(stream) for _ in range(2)]
        app.state.draining.set()
        rest = [frame async for frame in stream]
    assert [frame.type for frame in first] == ["request.accepted", "step.pending"]
    assert [(frame.type, frame.id) for frame in rest] == [("server.draining", None)]
