"""Waiting, with an API that holds its answer back and with one that does not."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from agent_service.client import waiting
from agent_service.domain.errors import RequestNotFound, StillRunning
from tests.support.scripted_api import Script, answering, frame, streaming


@pytest.fixture(autouse=True)
def at_once(no_pause: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once, also where the API answered early."""
    monkeypatch.setattr(waiting, "_EARLY", timedelta(0))


def request_answer(status: str, *, applied: bool) -> Response:
    headers = {"Preference-Applied": "wait=20"} if applied else {}
    return JSONResponse({"id": "r1", "status": status}, headers=headers)


async def test_an_api_that_holds_its_answer_back_is_asked_until_the_end_and_through_its_restarts() -> None:
    api = Script(
        request_answer("running", applied=True),
        JSONResponse({"code": "unavailable"}, 503),
        request_answer("running", applied=True),
        request_answer("failed", applied=True),
    )
    async with answering(api) as client:
        assert (await client.wait("r1")).status == "failed"
    assert api.headers("Prefer") == ["wait=20"] * 4
    assert {request.url.path for request in api.asked} == {"/v1/requests/r1"}


async def test_one_that_does_not_is_followed_by_its_events() -> None:
    api = Script(
        request_answer("running", applied=False),
        streaming(frame("request.accepted", "@0")),
        streaming(frame("request.cancelled", "@end")),
        request_answer("cancelled", applied=False),
    )
    async with answering(api) as client:
        assert (await client.wait("r1")).status == "cancelled"
    paths = [request.url.path for request in api.asked]
    assert paths == ["/v1/requests/r1", *["/v1/requests/r1/events"] * 2, "/v1/requests/r1"]


async def test_what_has_ended_is_known_from_one_answer() -> None:
    api = Script(request_answer("completed", applied=False))
    async with answering(api) as client:
        assert (await client.wait("r1")).completed


async def test_a_request_that_does_not_exist_is_not_waited_for() -> None:
    async with answering(Script(JSONResponse({}, 404))) as client:
        with pytest.raises(RequestNotFound):
            await client.wait("r1")


async def test_whoever_waits_no_longer_than_a_time_is_told_that_it_goes_on() -> None:
    over = asyncio.Event()

    async def silent() -> AsyncIterator[str]:
        yield ": ping\n\n"
        await over.wait()

    def answer(request: Request) -> Response:
        if request.url.path.endswith("/events"):
            return StreamingResponse(silent(), media_type="text/event-stream")
        return request_answer("running", applied=False)

    async with answering(answer) as client:
        with pytest.raises(StillRunning, match=r"r1 has not ended within 0\.2 s") as raised:
            await client.wait("r1", timeout=timedelta(seconds=0.2))
        over.set()
    assert isinstance(raised.value, TimeoutError)
