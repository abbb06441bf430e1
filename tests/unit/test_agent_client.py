"""AgentClient, against a server that answers as a test says."""

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent_service.client import AgentClient
from agent_service.domain.errors import BaseServiceUnavailable, InvalidSubmission, NotCompleted
from agent_service.domain.json_value import JsonObject
from tests.support.scripted_api import IMPATIENT, answering, frame, streaming

NOBODY = "http://127.0.0.1:9"


class Recorder:
    """Answers everything with one object, and remembers method, path, key and body of the calls."""

    def __init__(self, **answer: object) -> None:
        self.answer = answer
        self.calls: list[tuple[str, str, str | None, Any]] = []

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        key = request.headers.get("Idempotency-Key")
        self.calls.append((request.method, request.url.path, key, json.loads(body) if body else None))
        return JSONResponse(self.answer, 202)


async def test_a_cancellation_is_sent_to_its_request() -> None:
    api = Recorder(id="r1", status="running")
    async with answering(api) as client:
        assert (await client.cancel("r1")).status == "running"
    assert api.calls == [("POST", "/v1/requests/r1/cancel", None, None)]


async def test_a_submission_is_sent_with_its_key() -> None:
    api = Recorder(id="r1")
    submission: JsonObject = {"service": "analysis", "input": {}}
    async with answering(api) as client:
        assert (await client.submit(submission, idempotency_key="k")).id == "r1"
    assert api.calls == [("POST", "/v1/requests", "k", submission)]


async def test_a_submission_can_be_written_as_fields_too_and_gets_a_key_of_its_own() -> None:
    api = Recorder(id="r1")
    async with answering(api) as client:
        for _ in range(2):
            await client.submit({"service": "analysis"}, input="x", metadata={"team": "blue"})
    (_, _, first, body), (_, _, second, _) = api.calls
    assert body == {"service": "analysis", "input": "x", "metadata": {"team": "blue"}}
    assert first
    assert second
    assert first != second


async def test_a_retry_is_sent_with_its_step_and_its_key() -> None:
    api = Recorder(id="r2")
    async with answering(api) as client:
        assert (await client.retry("r1", from_step="check", idempotency_key="k")).id == "r2"
        assert (await client.retry("r1")).id == "r2"
        with pytest.raises(InvalidSubmission, match="idempotency key"):
            await client.retry("r1", idempotency_key="a b")
    path = "/v1/requests/r1/retry"
    made = api.calls[1][2]
    assert made
    assert api.calls == [("POST", path, "k", {"from_step": "check"}), ("POST", path, made, {})]


async def test_an_id_cannot_change_the_path_that_is_asked_for() -> None:
    paths = []

    def answer(request: Request) -> Response:
        paths.append(request.scope["raw_path"])
        return JSONResponse({})

    async with answering(answer) as client:
        await client.get("../../readyz?x=1")
    assert paths == [b"/v1/requests/..%2F..%2Freadyz%3Fx%3D1"]


async def test_an_api_that_is_not_there_is_an_error_at_once_for_who_has_no_patience() -> None:
    async with AgentClient(NOBODY, **IMPATIENT) as client:
        with pytest.raises(BaseServiceUnavailable, match="does not answer"):
            await anext(client.stream("r1"))
        with pytest.raises(BaseServiceUnavailable, match="does not answer"):
            await client.get("r1")


async def test_whether_an_api_is_ready_is_asked_once_only() -> None:
    async with AgentClient(NOBODY) as client:
        assert "does not answer" in (await client.ready() or "")


async def test_a_result_is_that_of_a_completed_request_only() -> None:
    def answer(request: Request) -> Response:
        if request.url.path.endswith("/events"):
            return streaming(frame("request.failed", "@end"))
        error = {"code": "rejected", "message": "no such model", "retryable": False}
        steps = [{"name": "draft", "status": "failed", "error": error}]
        status = "completed" if "good" in request.url.path else "failed"
        return JSONResponse({"id": "r1", "status": status, "steps": steps})

    async with answering(answer) as client:
        assert (await client.result("good")).completed
        with pytest.raises(NotCompleted, match="failed: step draft: rejected: no such model") as raised:
            await client.result("bad")
    assert (raised.value.status, raised.value.step, raised.value.code) == ("failed", "draft", "rejected")


@pytest.mark.parametrize("key", ["", "ü", "a\nb", "a b", "x" * 256])
async def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    async with AgentClient(NOBODY) as client:
        with pytest.raises(InvalidSubmission, match="idempotency key"):
            await client.submit({"service": "analysis", "input": 1}, idempotency_key=key)


@pytest.mark.parametrize("value", [float("nan"), "\ud800", 2**70])
async def test_a_value_that_no_json_can_carry_is_refused_with_its_place(value: Any) -> None:
    async with AgentClient(NOBODY) as client:
        with pytest.raises(InvalidSubmission) as caught:
            await client.submit({"service": "analysis", "input": value})
    assert caught.value.problems[0].pointer == "/input"
