"""Reading along: every event once and in order, wherever the stream breaks."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent_service.client import AgentClient
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable, RequestNotFound
from agent_service.local.servers import serve
from tests.support.scripted_api import (
    DRAINING,
    IMPATIENT,
    Script,
    aborting,
    answering,
    frame,
    scripted_app,
    streaming,
)

pytestmark = pytest.mark.usefixtures("no_pause")

#: The whole story of a request: its frames by their cursors, in order.
STORY = {
    "@0": frame("request.accepted", "@0", request_id="r1"),
    "@0,a:1.0": frame("step.running", "@0,a:1.0", step="a", attempt=1),
    "@0,a:1.1": frame("output.delta", "@0,a:1.1", step="a", attempt=1, seq=1, delta="x\u2028y"),
    "@0,a:1.2": frame("output.delta", "@0,a:1.2", step="a", attempt=1, seq=2, delta="…\n"),
    "@0,a:end": frame("step.completed", "@0,a:end", step="a", attempt=1),
    "@end,a:end": frame("request.completed", "@end,a:end"),
}
CURSORS = list(STORY)

#: How a connection ends, and after how many characters or events, or with which status.
Break = tuple[str, int]
BREAKS = st.lists(
    st.tuples(st.sampled_from(["end", "abort"]), st.integers(0, 400))
    | st.tuples(st.just("drain"), st.integers(0, 5))
    | st.tuples(st.just("refuse"), st.sampled_from([429, 502, 503])),
    max_size=12,
)


class BreakingApi:
    """Serves the story from any cursor on, and breaks each connection as it is told; then none any more."""

    def __init__(self, breaks: list[Break]) -> None:
        self.breaks = breaks

    def __call__(self, request: Request) -> Response:
        cursor = request.headers.get("Last-Event-ID")
        left = CURSORS[CURSORS.index(cursor) + 1 :] if cursor else CURSORS
        frames = [STORY[each] for each in left]
        how, number = self.breaks.pop(0) if self.breaks else ("end", 10_000)
        match how:
            case "refuse":
                return JSONResponse({"code": "unavailable"}, number)
            case "drain":
                return streaming("retry: 3000\n\n", *frames[:number], DRAINING)
            case _:
                sent = ("retry: 3000\n\n: ping\n\n" + "".join(frames))[:number]
                return aborting(sent) if how == "abort" else streaming(sent)


@pytest.fixture
async def breaking_api() -> AsyncIterator[tuple[BreakingApi, AgentClient]]:
    """One for all examples of a test."""
    api = BreakingApi([])
    async with answering(api) as client:
        yield api, client


@settings(
    max_examples=settings().max_examples * 3 // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(breaks=BREAKS)
async def test_any_sequence_of_breaks_shows_the_same_events(
    breaking_api: tuple[BreakingApi, AgentClient], breaks: list[Break]
) -> None:
    api, client = breaking_api
    api.breaks = list(breaks)
    events = [event async for event in client.stream("r1")]
    assert [event.id for event in events] == CURSORS
    assert [event.delta for event in events if event.delta] == ["x\u2028y", "…\n"]


@pytest.mark.parametrize("place", range(len("".join(STORY.values())) // 40))
async def test_a_break_anywhere_in_the_bytes_shows_the_same_events(place: int) -> None:
    async with answering(BreakingApi([("end", 40 * place)])) as client:
        assert [event.id async for event in client.stream("r1")] == CURSORS


@pytest.mark.parametrize("cursor", CURSORS[:-1])
async def test_who_begins_after_an_event_is_shown_the_rest(cursor: str) -> None:
    async with answering(BreakingApi([])) as client:
        shown = [event.id async for event in client.stream("r1", after=cursor)]
    assert shown == CURSORS[CURSORS.index(cursor) + 1 :]


async def test_a_stream_is_opened_again_with_the_cursor_that_was_reached() -> None:
    api = Script(
        streaming("retry: 3000\n\n", frame("request.accepted", "@0"), ": ping\n\n"),
        JSONResponse({"code": "unavailable"}, 503),
        streaming(frame("output.delta", "@0,a:1.1", step="a", delta="x"), DRAINING),
        # As from a proxy that sends its last event again.
        streaming(frame("output.delta", "@0,a:1.1", step="a", delta="x"), frame("request.failed", "@end")),
    )
    async with answering(api) as client:
        events = [event async for event in client.stream("r1")]
    assert [event.type for event in events] == ["request.accepted", "output.delta", "request.failed"]
    assert api.headers("Last-Event-ID") == [None, "@0", "@0", "@0,a:1.1"]


async def test_after_the_last_event_there_are_no_more() -> None:
    async with answering(Script(Response(status_code=204))) as client:
        assert [event async for event in client.stream("r1", after="@end,a:end")] == []


async def test_a_request_that_is_gone_ends_the_stream_with_that_error() -> None:
    api = Script(streaming(STORY["@0"]), JSONResponse({"code": "request_not_found"}, 404))
    async with answering(api) as client:
        with pytest.raises(RequestNotFound):
            _ = [event async for event in client.stream("r1")]


async def test_streams_that_end_at_once_again_and_again_are_given_up() -> None:
    async with answering(lambda _: streaming(": ping\n\n"), **IMPATIENT) as client:
        with pytest.raises(BaseServiceUnavailable, match="again and again"):
            _ = [event async for event in client.stream("r1")]


async def test_an_api_that_starts_anew_at_its_address_is_found_again() -> None:
    breaking = scripted_app(BreakingApi([("end", 250)]))
    async with serve(breaking) as server:
        client = AgentClient(server.base_url)
        events = client.stream("r1")
        seen = [(await anext(events)).id]
    async with serve(scripted_app(BreakingApi([])), port=server.port), client:
        seen += [event.id async for event in events]
    assert seen == CURSORS


async def test_the_key_goes_with_every_call_and_a_reader_whose_key_is_withdrawn_is_told() -> None:
    sent: list[str | None] = []

    def answer(request: Request) -> Response:
        sent.append(request.headers.get("Authorization"))
        if len(sent) == 1:
            withdrawn = 'event: server.unauthorized\ndata: {"type": "server.unauthorized"}\n\n'
            return streaming(STORY["@0"], withdrawn)
        return JSONResponse({"code": "invalid_key", "detail": "not valid"}, status_code=401)

    async with serve(scripted_app(answer)) as server, AgentClient(server.base_url, api_key="k") as client:
        stream = client.stream("r1")
        assert (await anext(stream)).type == "request.accepted"
        with pytest.raises(BaseServiceRejected, match="invalid_key"):
            await anext(stream)
    assert sent == ["Bearer k"] * 2
