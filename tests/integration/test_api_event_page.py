"""Events as pages of JSON: the same ones as in the stream, as far as they are stored now."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from httpx2 import Response
from jsonschema import Draft202012Validator

from agent_service.context_manager import ContextManager
from agent_service.domain.events import Chunk
from agent_service.store import Store
from tests.support.api import SUBMISSION, assert_problem, calling, make_app
from tests.support.event_streams import read_stream
from tests.support.hand_worker import claim, end, success, work_off

JSON = {"Accept": "application/json"}


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx2.AsyncClient]:
    async with calling(make_app(store)) as client:
        yield client


@pytest.fixture
async def path(api: httpx2.AsyncClient) -> str:
    """The events of a fresh request."""
    taken = await api.post("/v1/requests", json=SUBMISSION)
    return f"{taken.headers['location']}/events"


async def stream_pieces(contexts: ContextManager, count: int, delta: str = "x") -> None:
    """Let the first step of the request stream so many pieces and complete, and then the rest."""
    (draft,) = await claim(contexts, "generation")
    for seq in range(1, count + 1):
        await contexts.store_chunk(
            Chunk(context_id=draft.id, attempt=1, seq=seq, delta=delta, at=contexts.now())
        )
    await end(contexts, draft, success(contexts, draft, chunks=count))
    await work_off(contexts)


async def page(api: httpx2.AsyncClient, path: str, **parameters: str | int) -> Response:
    answer = await api.get(path, headers=JSON, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 1000])
async def test_all_pages_together_are_the_stream(
    api: httpx2.AsyncClient, store: Store, path: str, limit: int
) -> None:
    await stream_pieces(ContextManager(store), 30, "ü\u2028\n")
    events: list[dict[str, Any]] = []
    after: dict[str, str | int] = {}
    while True:
        shown = (await page(api, path, limit=limit, **after)).json()
        assert len(shown["events"]) <= limit
        events += shown["events"]
        assert shown["next"] == events[-1]["id"]
        if shown["ended"]:
            break
        after = {"after": shown["next"]}
    async with api.stream("GET", path) as response:
        streamed = [{"id": event.id, **event.data} async for event in read_stream(response)]
    by_id = sorted(events, key=lambda event: str(event["id"]))
    assert by_id == sorted(streamed, key=lambda event: str(event["id"]))
    assert events[-1]["type"] == "request.completed"


async def test_a_page_shows_what_there_is_now_and_says_when_to_ask_again(
    api: httpx2.AsyncClient, store: Store, path: str
) -> None:
    first = await page(api, path)
    shown = first.json()
    assert [event["type"] for event in shown["events"]] == ["request.accepted", "step.pending"]
    assert (shown["ended"], first.headers["retry-after"]) == (False, "1")
    nothing_new = await page(api, path, after=shown["next"])
    assert nothing_new.json() == {"events": [], "next": shown["next"], "ended": False}
    assert nothing_new.headers["retry-after"] == "1"
    cut = await page(api, path, limit=1)
    assert "retry-after" not in cut.headers
    await stream_pieces(ContextManager(store), 1)
    rest = await page(api, path, after=shown["next"])
    assert rest.json()["ended"]
    assert "retry-after" not in rest.headers
    behind = await page(api, path, after=rest.json()["next"])
    assert behind.json() == {"events": [], "next": rest.json()["next"], "ended": True}


async def test_a_page_of_long_output_ends_early_and_says_that_there_is_more(
    api: httpx2.AsyncClient, store: Store, path: str
) -> None:
    await stream_pieces(ContextManager(store), 40, "x" * 65_536)
    first = await page(api, path, limit=1000)
    shown = first.json()
    assert not shown["ended"]
    assert "retry-after" not in first.headers
    assert 1_048_576 <= len(first.content) < 2_000_000
    events = shown["events"]
    while not shown["ended"]:
        shown = (await page(api, path, limit=1000, after=shown["next"])).json()
        events += shown["events"]
    assert sum(len(event.get("delta", "")) for event in events) == 40 * 65_536


async def test_the_header_names_the_cursor_too(api: httpx2.AsyncClient, path: str) -> None:
    headers = {**JSON, "Last-Event-ID": "@0"}
    shown = (await api.get(path, headers=headers, params={"after": "@0,draft:0.0"})).json()
    assert [event["type"] for event in shown["events"]] == ["step.pending"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many"])
async def test_a_limit_that_is_none_is_refused(api: httpx2.AsyncClient, path: str, limit: str) -> None:
    assert_problem(await api.get(path, headers=JSON, params={"limit": limit}), 422, "invalid_parameter")


@pytest.mark.parametrize("cursor", ["x", "@0,other:1.1", "@0,draft:1", "@end", "@end,draft:end,check:end"])
async def test_a_cursor_that_is_none_of_this_request_is_refused(
    api: httpx2.AsyncClient, path: str, cursor: str
) -> None:
    assert_problem(await api.get(path, headers=JSON, params={"after": cursor}), 400, "invalid_cursor")


@pytest.mark.parametrize(
    "cursor", ["@0,draft:1.999999999", "@0,draft:999999999.5", "@0,draft:0.7,check:end", "@0,draft:end"]
)
async def test_a_cursor_beyond_what_exists_still_comes_to_the_end(
    api: httpx2.AsyncClient, store: Store, path: str, cursor: str
) -> None:
    early = (await page(api, path, after=cursor)).json()
    assert not early["ended"]
    await stream_pieces(ContextManager(store), 3)
    shown = (await page(api, path, after=cursor)).json()
    assert (shown["ended"], shown["events"][-1]["type"]) == (True, "request.completed")
    async with api.stream("GET", path, params={"after": cursor}) as response:
        streamed = [event async for event in read_stream(response)]
    assert [event.id for event in streamed] == [event["id"] for event in shown["events"]]


async def test_a_request_that_is_not_there_is_not_found(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.get("/v1/requests/none/events", headers=JSON), 404, "request_not_found")


async def test_a_page_is_as_the_document_describes_it(
    api: httpx2.AsyncClient, store: Store, path: str
) -> None:
    await stream_pieces(ContextManager(store), 2)
    document = (await api.get("/openapi.json")).json()
    operation = document["paths"]["/v1/requests/{request_id}/events"]["get"]
    content = operation["responses"]["200"]["content"]
    assert set(content) == {"text/event-stream", "application/json"}
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    Draft202012Validator(schema).validate((await page(api, path)).json())
    limit = next(each for each in operation["parameters"] if each["name"] == "limit")["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 1000, 100)
