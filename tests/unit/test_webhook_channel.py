import json
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_service.local.execute_contract import ExecuteProblem
from agent_service.local.servers import serve
from agent_service.local.webhook_channel import PAYLOAD_LIMIT_BYTES, WebhookSender, check_webhook_url


class Receiver:
    """Answers with the status in its path and remembers what came."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], Any]] = []
        self.base_url = ""
        self.app = Starlette(routes=[Route("/{status:int}", self._receive, methods=["POST"])])

    async def _receive(self, request: Request) -> Response:
        self.received.append((dict(request.headers), json.loads(await request.body())))
        headers = {"Retry-After": "9", "Location": "/200"}
        return Response(b"x" * 100_000, status_code=request.path_params["status"], headers=headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    running = Receiver()
    async with serve(running.app) as server:
        running.base_url = server.base_url
        yield running


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    running = WebhookSender()
    yield running
    await running.close()


async def test_the_payload_arrives_as_json_with_its_identity(
    receiver: Receiver, sender: WebhookSender
) -> None:
    payload = {"text": "ä", "list": [1, None]}
    found = await sender.send(f"{receiver.base_url}/201", payload, message_id="m1")
    assert found.status == 201
    ((headers, received),) = receiver.received
    assert received == payload
    assert (headers["content-type"], headers["idempotency-key"]) == ("application/json", "m1")


@pytest.mark.parametrize(
    ("answer", "status", "wait"),
    [
        (302, 422, None),
        (404, 422, None),
        (429, 503, timedelta(seconds=9)),
        (500, 503, timedelta(seconds=9)),
    ],
)
async def test_what_the_receiver_refuses_is_told_by_class(
    receiver: Receiver, sender: WebhookSender, answer: int, status: int, wait: timedelta | None
) -> None:
    with pytest.raises(ExecuteProblem, match=f"answered {answer}") as problem:
        await sender.send(f"{receiver.base_url}/{answer}", 1, message_id="m1")
    assert (problem.value.status, problem.value.retry_after) == (status, wait)
    assert len(receiver.received) == 1, "a redirect was followed"


async def test_a_receiver_that_is_not_there_or_silent_may_be_tried_again(sender: WebhookSender) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ExecuteProblem, match="cannot be reached") as refused:
            await sender.send(url, 1, message_id="m1")
        listener.listen()
        impatient = WebhookSender(timeout=timedelta(milliseconds=50))
        with pytest.raises(ExecuteProblem, match="cannot be reached") as silent:
            await impatient.send(url, 1, message_id="m1")
        await impatient.close()
    assert (refused.value.status, silent.value.status) == (503, 503)


async def test_a_payload_over_the_limit_is_not_sent(receiver: Receiver, sender: WebhookSender) -> None:
    with pytest.raises(ExecuteProblem) as problem:
        await sender.send(f"{receiver.base_url}/200", "x" * PAYLOAD_LIMIT_BYTES, message_id="m1")
    assert problem.value.code == "payload_too_large"
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "//example.org",
        "http://",
        "http://user:secret@example.org/",
        "http://example.org/a b",
        "http://example.org/\r\nX: y",
        "http://example.org:99999/",
        "http://[::1/",
    ],
)
def test_an_address_that_is_no_plain_http_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_webhook_url(url)


def test_loopback_is_allowed() -> None:
    assert check_webhook_url("http://127.0.0.1:8000/hook?a=1")
