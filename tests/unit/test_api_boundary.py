import json
from collections.abc import Iterator

import httpx2
import loguru
import pytest
from loguru import logger
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from agent_service.api.boundary import Boundary


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    match scope["path"]:
        case "/fails":
            raise RuntimeError("secret of db-7.internal")
        case "/fails-late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("too late")
        case "/reads":
            await Request(scope, receive).body()
        case _:
            logger.info("inside")
            await PlainTextResponse("hello")(scope, receive, send)


@pytest.fixture
def logged() -> Iterator[list["loguru.Record"]]:
    records: list[loguru.Record] = []
    sink = logger.add(lambda message: records.append(message.record), level="DEBUG")
    yield records
    logger.remove(sink)


async def call(path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=Boundary(application))
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        return await client.get(path, headers=headers)


async def test_the_id_of_a_call_is_repeated_and_logged(logged: list["loguru.Record"]) -> None:
    response = await call("/", {"X-Request-Id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert [record["extra"]["http_request_id"] for record in logged] == ["mine-1"]


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 129, "a\tb"])
async def test_a_call_without_a_usable_id_gets_one(sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-Id": sent}
    ids = [(await call("/", headers)).headers["x-request-id"] for _ in range(2)]
    assert len(set(ids)) == 2
    assert sent not in ids
    assert all(len(given) == 32 for given in ids)


async def test_what_nobody_caught_is_a_500_that_says_nothing_and_a_log_line_that_says_all(
    logged: list["loguru.Record"],
) -> None:
    response = await call("/fails", {"X-Request-Id": "mine-2"})
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    problem = response.json()
    assert (problem["code"], problem["request_id"], problem["instance"]) == (
        "internal_error",
        "mine-2",
        "/fails",
    )
    assert "secret" not in json.dumps(problem)
    assert [(record["level"].name, record["extra"]["http_request_id"]) for record in logged] == [
        ("ERROR", "mine-2")
    ]
    exception = logged[0]["exception"]
    assert exception is not None
    assert "secret" in str(exception.value)


async def test_an_answer_that_has_begun_is_cut_and_not_ended() -> None:
    with pytest.raises(RuntimeError, match="too late"):
        await call("/fails-late")


async def test_a_caller_that_goes_away_while_it_sends_is_no_error(logged: list["loguru.Record"]) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "POST", "path": "/reads", "headers": []}
    with pytest.raises(ClientDisconnect):
        await application(dict(scope), receive, send)
    await Boundary(application)(scope, receive, send)
    assert sent == []
    assert [record["level"].name for record in logged] == ["DEBUG"]
