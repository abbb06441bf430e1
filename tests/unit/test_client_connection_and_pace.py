"""How calls are repeated, and what is sent along with them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from agent_service.client import AgentClient
from agent_service.client.pace import Pace
from agent_service.domain.errors import BaseServiceUnavailable, ConfigurationError
from tests.support.scripted_api import IMPATIENT, Script, aborting, answering, frame

BUSY = JSONResponse({"code": "unavailable", "detail": "not now"}, 503)
ACCEPTED = JSONResponse({"id": "r1"}, 202)


@pytest.fixture(autouse=True)
def no_key_of_this_machine(no_pause: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the keys that a test sets."""
    monkeypatch.delenv("AGENT_SERVICE_API_KEY", raising=False)


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_a_submission_is_repeated_with_one_key_until_it_is_taken(status: int) -> None:
    api = Script(JSONResponse({}, status), aborting("{"), BUSY, ACCEPTED)
    async with answering(api) as client:
        assert (await client.submit(service="analysis", input=1)).id == "r1"
    assert len(set(api.headers("Idempotency-Key"))) == 1
    assert len(api.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 501])
async def test_what_would_end_the_same_way_is_not_repeated(status: int) -> None:
    api = Script(JSONResponse({"code": "x", "detail": "y"}, status))
    async with answering(api) as client:
        with pytest.raises(Exception, match=r"x|y|r1"):
            await client.get("r1")
    assert len(api.asked) == 1


async def test_without_patience_the_first_failure_is_the_last() -> None:
    api = Script(BUSY)
    async with answering(api, **IMPATIENT) as client:
        with pytest.raises(BaseServiceUnavailable, match="unavailable: not now"):
            await client.get("r1")


async def test_a_pause_that_the_api_asks_for_is_kept() -> None:
    loop_times = []

    def answer(request: Request) -> Response:
        loop_times.append(request.scope["type"])
        return JSONResponse({"code": "slow_down"}, 429, headers={"Retry-After": "1"})

    async with answering(answer, patience=timedelta(milliseconds=900)) as client:
        with pytest.raises(BaseServiceUnavailable) as raised:
            await client.get("r1")
    assert raised.value.retry_after == timedelta(seconds=1)
    # The pause would have been longer than the patience.
    assert len(loop_times) == 1


async def test_a_success_in_between_makes_the_next_failure_the_first() -> None:
    error = BaseServiceUnavailable("c", "m", retry_after=timedelta(milliseconds=300))
    kept = Pace(timedelta(milliseconds=500))
    for _ in range(3):
        await kept.pause_or_raise(error)
        kept.reset()
    await kept.pause_or_raise(error)
    with pytest.raises(BaseServiceUnavailable):
        await kept.pause_or_raise(error)


async def test_the_key_is_sent_as_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Script(*[JSONResponse({}) for _ in range(3)])
    async with answering(api) as client:
        await client.get("r1")
    monkeypatch.setenv("AGENT_SERVICE_API_KEY", "from-environment\n")
    async with answering(api) as client:
        await client.get("r1")
    async with answering(api, api_key="given") as client:
        await client.get("r1")
    assert api.headers("Authorization") == [None, "Bearer from-environment", "Bearer given"]


async def test_nothing_that_a_client_says_shows_its_key_or_password() -> None:
    secret = "ask_live_hush"
    async with AgentClient("http://ann:hush@127.0.0.1:9/x", api_key=secret, **IMPATIENT) as client:
        assert repr(client) == "AgentClient(http://127.0.0.1:9/x)"
        with pytest.raises(BaseServiceUnavailable) as raised:
            await client.get("r1")
    assert "hush" not in repr(raised.value)
    for wrong in ("hush\n", "hüsh", ""):
        with pytest.raises(ConfigurationError) as refused:
            AgentClient("http://127.0.0.1:9", api_key=wrong)
        assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["nonsense", "ftp://example.org", "http://", "http://[::1", "127.0.0.1:8000"]
)
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ConfigurationError, match="http://"):
        AgentClient(address)


async def test_any_number_of_readers_do_not_keep_a_call_from_being_answered() -> None:
    over = asyncio.Event()

    async def held_back() -> AsyncIterator[str]:
        yield frame("request.accepted", "@0")
        await over.wait()

    def answer(request: Request) -> Response:
        if request.url.path.endswith("/events"):
            return StreamingResponse(held_back(), media_type="text/event-stream")
        return JSONResponse({"id": "r1"})

    async with answering(answer) as client, AsyncExitStack() as readers:
        for _ in range(120):
            events = await readers.enter_async_context(aclosing(client.stream("r1")))
            await anext(events)
        assert (await client.get("r1")).id == "r1"
        over.set()
