import asyncio
import json
import mailbox
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_service.local.communication_contract import CHANNELS
from agent_service.local.communication_service import create_communication_app
from agent_service.local.email_channel import SmtpSettings
from agent_service.local.servers import serve

EMAIL = {"channel": "email", "to": "ann@example.org", "subject": "Grüße", "body": "Hello ä\n"}


def connect(outbox: Path, smtp: SmtpSettings | None = None) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=create_communication_app(outbox, smtp=smtp))
    return httpx2.AsyncClient(transport=transport, base_url="http://communication")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(tmp_path) as running:
        yield running


async def send(client: httpx2.AsyncClient, content: object, key: str | None = None) -> httpx2.Response:
    body = {"context_id": "r1.n", "request_id": "r1", "step": "n", "attempt": 1, "input": content}
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
    return await client.post("/execute", content=json.dumps(body), headers=headers)


async def output_of(client: httpx2.AsyncClient, content: object, key: str | None = None) -> dict[str, Any]:
    response = await send(client, content, key)
    assert response.status_code == 200, response.text
    output: dict[str, Any] = response.json()["output"]
    return output


def mail_in(outbox: Path) -> list[Message]:
    return list(mailbox.Maildir(outbox / "mail", create=False))


def read(path: str) -> str:
    return Path(path).read_text()


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_an_email_becomes_a_file_in_a_maildir(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    output = await output_of(client, EMAIL, "key")
    assert read(output["path"]).startswith("From: ")
    (message,) = mail_in(tmp_path)
    assert (message["To"], message["Message-ID"]) == ("ann@example.org", output["message_id"])
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().strip() == "Hello ä"


async def test_concurrent_duplicates_deliver_one_message_and_get_the_same_answer(
    client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    outputs = await asyncio.gather(*(output_of(client, EMAIL, "key") for _ in range(20)))
    assert all(output == outputs[0] for output in outputs)
    assert len(mail_in(tmp_path)) == 1


async def test_a_key_delivers_once_over_restarts_even_without_its_record(tmp_path: Path) -> None:
    async with connect(tmp_path) as first:
        before = await output_of(first, EMAIL, "key")
    async with connect(tmp_path) as second:
        assert await output_of(second, EMAIL, "key") == before
    for record in files_in(tmp_path / "deliveries"):
        record.unlink()
    async with connect(tmp_path) as third:
        assert await output_of(third, EMAIL, "key") == before
    assert len(mail_in(tmp_path)) == 1


async def test_without_a_key_every_call_delivers(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    for _ in range(2):
        await output_of(client, EMAIL)
    assert len(mail_in(tmp_path)) == 2


async def test_a_key_for_another_message_is_refused(client: httpx2.AsyncClient) -> None:
    await output_of(client, EMAIL, "key")
    response = await send(client, EMAIL | {"body": "other"}, "key")
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_conflict")


async def test_the_log_takes_one_line_for_each_message(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    output = await output_of(client, {"channel": "log", "message": "two\nlines", "level": "warning"})
    (line,) = read(output["path"]).splitlines()
    assert json.loads(line).items() >= {"level": "warning", "message": "two\nlines"}.items()


async def test_a_webhook_is_sent_once_under_its_key(client: httpx2.AsyncClient) -> None:
    received: list[object] = []

    async def receive(request: Request) -> Response:
        received.append(await request.json())
        return Response(status_code=202)

    async with serve(Starlette(routes=[Route("/", receive, methods=["POST"])])) as receiver:
        content = {"channel": "webhook", "url": f"{receiver.base_url}/", "payload": {"n": 1}}
        first = await output_of(client, content, "key")
        assert await output_of(client, content, "key") == first
    assert first["status"] == 202
    assert received == [{"n": 1}]


async def test_a_failure_is_not_remembered_as_a_delivery(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    gone = SmtpSettings(host="127.0.0.1", port=1, security="none")
    async with connect(tmp_path, gone) as without_line:
        response = await send(without_line, EMAIL, "key")
    assert (response.status_code, response.json()["code"]) == (503, "smtp_unavailable")
    assert (await output_of(client, EMAIL, "key"))["transport"] == "maildir"


@pytest.mark.parametrize(
    ("content", "pointer", "part"),
    [
        ({"channel": "pigeon"}, "/input/channel", "email, webhook, log"),
        (EMAIL | {"to": "a@example.org\r\nBcc: b@example.org"}, "/input/to", "plain address"),
        (EMAIL | {"subject": "a\r\nBcc: b@example.org"}, "/input/subject", "one line"),
        (EMAIL | {"body": "\ud800"}, "/input/body", "surrogates"),
        ({"channel": "webhook", "url": "ftp://a/", "payload": 1}, "/input/url", "http or https"),
        ({"channel": "webhook", "url": "http://a/", "payload": 2**70}, "/input/payload", "64 bits"),
        ({"channel": "log"}, "/input/message", "required"),
    ],
)
async def test_a_wrong_input_is_a_problem_that_points_at_the_field(
    client: httpx2.AsyncClient, tmp_path: Path, content: object, pointer: str, part: str
) -> None:
    response = await send(client, content, "key")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert part in error["detail"]
    assert files_in(tmp_path) == []


async def test_the_contract_is_valid_openapi_and_names_every_channel(client: httpx2.AsyncClient) -> None:
    contract = (await client.get("/openapi.json")).json()
    validate(contract)
    schemas = contract["components"]["schemas"]
    assert set(schemas["CommunicationCall"]["properties"]["input"]["discriminator"]["mapping"]) == set(
        CHANNELS
    )
    parameters = contract["paths"]["/execute"]["post"]["parameters"]
    assert [parameter["name"].lower() for parameter in parameters] == ["idempotency-key"]
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_a_stop_waits_for_what_is_being_delivered(tmp_path: Path) -> None:
    began, may_answer = asyncio.Event(), asyncio.Event()

    async def receive(_: Request) -> Response:
        began.set()
        await may_answer.wait()
        return Response()

    async with serve(Starlette(routes=[Route("/", receive, methods=["POST"])])) as receiver:
        async with serve(create_communication_app(tmp_path)) as service, httpx2.AsyncClient() as client:
            url = f"{service.base_url}/execute"
            body = {
                "context_id": "c",
                "request_id": "r",
                "step": "s",
                "attempt": 1,
                "input": {"channel": "webhook", "url": f"{receiver.base_url}/", "payload": 1},
            }
            call = asyncio.create_task(client.post(url, json=body, headers={"Idempotency-Key": "key"}))
            await began.wait()
            call.cancel()
            await asyncio.wait({call})
            may_answer.set()
        assert [file.suffix for file in files_in(tmp_path / "deliveries")] == [".json"]
