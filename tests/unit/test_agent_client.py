"""AgentClient, against a server that answers as a test says."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from agent_service import client as client_module
from agent_service.client import AgentClient
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceRejected,
    BaseServiceUnavailable,
    IdempotencyConflict,
    InvalidSubmission,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
)
from agent_service.local.servers import serve

Answer = Callable[[Request], Response]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[AgentClient]:
    async def endpoint(request: Request) -> Response:
        await request.body()
        return answer(request)

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])
    async with serve(app) as server, AgentClient(server.base_url) as client:
        yield client


def frame(kind: str, cursor: str, **data: object) -> str:
    return f"id: {cursor}\nevent: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def streaming(*frames: str) -> Response:
    async def body() -> AsyncIterator[str]:
        for each in frames:
            yield each

    return StreamingResponse(body(), media_type="text/event-stream")


@pytest.mark.parametrize(
    ("status", "problem", "kind"),
    [
        (404, {"code": "request_not_found"}, RequestNotFound),
        (422, {"code": "idempotency_key_reused", "detail": "d"}, IdempotencyConflict),
        (409, {"code": "request_already_ended", "detail": "d"}, RequestAlreadyEnded),
        (422, {"errors": [{"pointer": "/steps/0", "detail": "d"}]}, InvalidSubmission),
        (409, {"code": "request_not_ended"}, RequestNotEnded),
        (409, {"code": "nothing_to_retry"}, NothingToRetry),
        (413, {"detail": "too large"}, InvalidSubmission),
        (503, {"code": "unavailable"}, BaseServiceUnavailable),
        (429, {}, BaseServiceUnavailable),
        (403, {}, BaseServiceRejected),
    ],
)
async def test_a_problem_becomes_the_error_that_it_stands_for(
    status: int, problem: dict[str, object], kind: type[AgentServiceError]
) -> None:
    async with answering(lambda _: JSONResponse(problem, status)) as client:
        with pytest.raises(kind) as raised:
            await client.get("r1")
    if isinstance(raised.value, InvalidSubmission) and "errors" in problem:
        assert raised.value.problems[0].pointer == "/steps/0"


async def test_a_cancellation_is_sent_to_its_request() -> None:
    seen = []

    def answer(request: Request) -> Response:
        seen.append((request.method, request.url.path))
        return JSONResponse({"id": "r1", "status": "running"}, 202)

    async with answering(answer) as client:
        assert await client.cancel("r1") == {"id": "r1", "status": "running"}
    assert seen == [("POST", "/v1/requests/r1/cancel")]


async def test_a_submission_is_sent_with_its_key() -> None:
    seen = []

    def answer(request: Request) -> Response:
        seen.append((request.method, request.url.path, request.headers.get("Idempotency-Key")))
        return JSONResponse({"id": "r1"}, 202)

    async with answering(answer) as client:
        assert await client.submit({"service": "analysis", "input": {}}, idempotency_key="k") == {"id": "r1"}
    assert seen == [("POST", "/v1/requests", "k")]


async def test_a_retry_is_sent_with_its_step_and_its_key() -> None:
    seen = []

    async def endpoint(request: Request) -> Response:
        seen.append((request.method, request.url.path, request.headers.get("Idempotency-Key")))
        seen.append(await request.json())
        return JSONResponse({"id": "r2"}, 202)

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["POST"])])
    async with serve(app) as server, AgentClient(server.base_url) as client:
        assert await client.retry("r1", from_step="check", idempotency_key="k") == {"id": "r2"}
        assert await client.retry("r1") == {"id": "r2"}
        with pytest.raises(InvalidSubmission, match="idempotency key"):
            await client.retry("r1", idempotency_key="a b")
    path = "/v1/requests/r1/retry"
    assert seen == [("POST", path, "k"), {"from_step": "check"}, ("POST", path, None), {}]


async def test_an_id_cannot_change_the_path_that_is_asked_for() -> None:
    paths = []

    def answer(request: Request) -> Response:
        paths.append(request.scope["raw_path"])
        return JSONResponse({})

    async with answering(answer) as client:
        await client.get("../../readyz?x=1")
    assert paths == [b"/v1/requests/..%2F..%2Freadyz%3Fx%3D1"]


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", ""])
async def test_an_answer_that_is_no_object_is_refused(body: str) -> None:
    async with answering(lambda _: PlainTextResponse(body)) as client:
        with pytest.raises(BaseServiceRejected, match="no JSON object"):
            await client.get("r1")


async def test_a_stream_that_breaks_goes_on_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_pause", lambda _: timedelta(0))
    asked: list[str | None] = []
    answers = [
        streaming("retry: 3000\n\n", frame("request.accepted", "@0"), ": ping\n\n"),
        JSONResponse({"code": "unavailable"}, 503),
        streaming(
            frame("output.delta", "@0,a:1.1", step="a", delta="x\u2028y"),
            'event: server.draining\ndata: {"type": "server.draining"}\n\n',
        ),
        streaming(frame("request.completed", "@end,a:end")),
    ]

    def answer(request: Request) -> Response:
        asked.append(request.headers.get("Last-Event-ID"))
        return answers[len(asked) - 1]

    async with answering(answer) as client:
        events = [event async for event in client.events("r1")]
    assert [event.type for event in events] == ["request.accepted", "output.delta", "request.completed"]
    assert (events[1].step, events[1].data["delta"]) == ("a", "x\u2028y")
    assert asked == [None, "@0", "@0", "@0,a:1.1"]


async def test_the_api_key_goes_with_every_call_and_a_reader_whose_key_is_withdrawn_is_told() -> None:
    sent: list[str | None] = []

    def answer(request: Request) -> Response:
        sent.append(request.headers.get("Authorization"))
        if len(sent) == 1:
            return JSONResponse({"id": "r1"})
        if len(sent) == 2:
            last = 'event: server.unauthorized\ndata: {"type": "server.unauthorized"}\n\n'
            return streaming(frame("request.accepted", "@0"), last)
        return JSONResponse({"code": "invalid_key", "detail": "not valid"}, status_code=401)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET"])])
    events = []
    async with serve(app) as server, AgentClient(server.base_url, api_key="k") as client:
        await client.get("r1")
        stream = client.events("r1")
        events.append((await anext(stream)).type)
        with pytest.raises(BaseServiceRejected, match="invalid_key"):
            await anext(stream)
    assert events == ["request.accepted"]
    assert sent == ["Bearer k"] * 3


async def test_a_stream_that_cannot_be_opened_is_an_error_at_once() -> None:
    async with AgentClient("http://127.0.0.1:9") as client:
        with pytest.raises(BaseServiceUnavailable, match="does not answer"):
            await anext(client.events("r1"))
        assert "does not answer" in (await client.ready() or "")


async def test_waiting_ends_with_the_request_as_it_ended() -> None:
    def answer(request: Request) -> Response:
        if request.url.path.endswith("/events"):
            return streaming(frame("request.failed", "@end"))
        return JSONResponse({"id": "r1", "status": "failed"})

    async with answering(answer) as client:
        assert (await client.wait("r1"))["status"] == "failed"


@pytest.mark.parametrize("key", ["", "ü", "a\nb", "a b", "x" * 256])
async def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    async with AgentClient("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidSubmission, match="idempotency key"):
            await client.submit({"service": "analysis", "input": 1}, idempotency_key=key)


@pytest.mark.parametrize("value", [float("nan"), "\ud800", 2**70])
async def test_a_value_that_no_json_can_carry_is_refused_with_its_place(value: Any) -> None:
    async with AgentClient("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidSubmission) as caught:
            await client.submit({"service": "analysis", "input": value})
    assert caught.value.problems[0].pointer == "/input"
