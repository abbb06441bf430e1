"""The calls that a process answers, counted."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from agent_service.api.http_metrics import HttpMetrics
from tests.support.api import SUBMISSION, calling, make_app, memory_store


def scope_of(method: str = "GET") -> Scope:
    return {"type": "http", "method": method, "path": "/secret/path", "headers": []}


async def nothing() -> Message:
    return {"type": "http.request"}


async def ignore(message: Message) -> None:
    del message


def calls_in(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "agent_service_http_requests_total"
    }


async def test_calls_are_counted_by_the_template_of_their_route() -> None:
    async with calling(make_app(memory_store(), hosts={"api"})) as api:
        taken = await api.post("/v1/requests", json=SUBMISSION)
        for path in (taken.headers["location"], "/v1/requests/none", "/none", "/healthz"):
            await api.get(path)
        await api.request("BREW", "/v1/requests")
        await api.get("/healthz", headers={"Host": "elsewhere.example.org"})
        lines = (await api.get("/metrics")).text.splitlines()
    counted = {line for line in lines if line.startswith("agent_service_http_requests_total")}
    name = "agent_service_http_requests_total"
    assert counted == {
        f'{name}{{method="POST",route="/v1/requests",status="202"}} 1.0',
        f'{name}{{method="GET",route="/v1/requests/{{request_id}}",status="200"}} 1.0',
        f'{name}{{method="GET",route="/v1/requests/{{request_id}}",status="404"}} 1.0',
        f'{name}{{method="GET",route="other",status="404"}} 1.0',
        f'{name}{{method="GET",route="/healthz",status="200"}} 1.0',
        f'{name}{{method="other",route="/v1/requests",status="405"}} 1.0',
        f'{name}{{method="GET",route="other",status="421"}} 1.0',
    }
    assert 'agent_service_http_request_duration_seconds_count{method="GET",route="/healthz"} 1.0' in lines


async def test_what_nobody_foresaw_is_counted_as_what_its_caller_got(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()

    async def broken(*args: Any) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(store.workers, "seen_since", broken)
    async with calling(make_app(store)) as api:
        assert (await api.get("/workers/health")).status_code == 500
        monkeypatch.undo()
        text = (await api.get("/metrics")).text
    assert 'http_requests_total{method="GET",route="/workers/health",status="500"} 1.0' in text


async def test_a_stream_is_open_from_its_first_byte_until_it_ends() -> None:
    registry = CollectorRegistry()
    opened, go_on = asyncio.Event(), asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        opened.set()
        await go_on.wait()
        raise ConnectionError("the reader is gone")

    async def read() -> None:
        await HttpMetrics(registry).around(stream)(scope_of(), nothing, ignore)

    reading = asyncio.create_task(read())
    await opened.wait()
    assert registry.get_sample_value("agent_service_sse_clients") == 1
    go_on.set()
    with pytest.raises(ConnectionError):
        await reading
    assert registry.get_sample_value("agent_service_sse_clients") == 0
    assert calls_in(registry) == {("GET", "other", "200"): 1}


async def test_a_call_without_an_answer_is_counted_too() -> None:
    registry = CollectorRegistry()

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send

    await HttpMetrics(registry).around(silent)(scope_of(), nothing, ignore)
    assert calls_in(registry) == {("GET", "other", "none"): 1}


async def test_what_is_no_call_passes_through() -> None:
    registry = CollectorRegistry()
    seen: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await HttpMetrics(registry).around(lifespan)({"type": "lifespan"}, nothing, ignore)
    assert seen == ["lifespan"]
    assert calls_in(registry) == {}
