"""Answers that are none: every way in which a base service can fail, over every kind of HTTP client."""

import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agent_service.domain.errors import BaseServiceError
from tests.support.base_service_behaviours import (
    RecordedCall,
    Reply,
    answer,
    cut,
    cut_body,
    events,
    hang,
    html,
    redirect,
    trickle,
)
from tests.support.base_service_clients import each_kind, service
from tests.support.base_service_stub import UNREAD_PREFIX, BaseServiceStub

STREAM = {"Content-Type": "text/event-stream"}


@pytest.mark.conformance
@each_kind
async def test_a_service_that_is_down_could_not_be_reached(kind: str) -> None:
    async with service(kind) as it:
        await it.stub.__aexit__()
        error = await it.unavailable()
        assert (error.code, error.answered) == ("connect_failed", False)


@each_kind
async def test_a_service_that_comes_back_is_reached_again(kind: str) -> None:
    async with service(kind) as it:
        await it.call()
        port = it.stub.port
        await it.stub.__aexit__()
        assert not (await it.unavailable()).answered
        async with BaseServiceStub() as again:
            again.port = port
        async with again:
            assert (await it.call()).output == "done"


@pytest.mark.conformance
@each_kind
async def test_a_connection_closed_before_the_answer_was_lost(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(cut())
        error = await it.unavailable()
        assert (error.code, error.answered) == ("connection_lost", False)
        assert len(it.stub.calls) == 1


@pytest.mark.conformance
@each_kind
async def test_a_request_is_not_sent_again_when_the_kept_connection_it_went_over_is_cut(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(answer({"output": 1}), cut(), answer({"output": 2}))
        await it.call()
        error = await it.unavailable()
        assert (error.code, error.answered) == ("connection_lost", False)
        assert (len(it.stub.calls), it.stub.connections) == (2, 1)


@pytest.mark.conformance
@each_kind
async def test_bytes_that_are_no_http_are_an_invalid_answer(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(cut(b"220 smtp.example.org ESMTP\r\n\r\n"))
        assert (await it.unavailable()).code == "invalid_answer"


CUTS = {
    "json": cut_body(b'{"output": 12', length=100),
    "stream": cut_body(b'data: {"delta": "a"}\n\n', length=100, headers=STREAM),
    "chunked stream": events({"delta": "a"}, then=cut()),
    "inside a chunk": events({"delta": "a"}, then=cut(b"5\r\ndat")),
}


@pytest.mark.conformance
@each_kind
@pytest.mark.parametrize("name", CUTS)
async def test_an_answer_cut_in_the_middle_is_never_taken(kind: str, name: str) -> None:
    async with service(kind) as it:
        it.stub.behave(CUTS[name])
        error = await it.unavailable()
        assert (error.code, error.answered) == ("connection_lost", True)


@each_kind
@pytest.mark.parametrize("protocol", ["execute", "openai"])
async def test_a_stream_that_ends_early_in_good_order_is_never_a_short_answer(
    kind: str, protocol: str
) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "short"}}], "delta": "short"}
    for behaviour in (
        events(chunk),
        events(),
        answer(body='data: {"output": 1}', headers=STREAM),
        cut(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n"),
    ):
        async with service(kind, protocol=protocol) as it:
            it.stub.behave(behaviour)
            error = await it.unavailable()
            assert (error.code, error.answered) == ("incomplete_answer", True)


@each_kind
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (408, "request_timeout"),
        (425, "too_early"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
async def test_a_busy_service_says_when_to_come_back(kind: str, status: int, code: str) -> None:
    date = format_datetime(datetime(2040, 1, 1, 0, 1, tzinfo=UTC), usegmt=True)
    dated = {"Retry-After": date, "Date": "Sun, 01 Jan 2040 00:00:00 GMT"}
    async with service(kind) as it:
        it.stub.behave(
            answer({"title": "Busy"}, status=status, headers={"Retry-After": "7"}),
            answer({"title": "Busy"}, status=status, headers=dated),
            answer({"title": "Busy"}, status=status, headers={"Retry-After": "soon"}),
        )
        for seconds in (7, 60, None):
            error = await it.unavailable()
            assert (error.code, error.answered) == (code, True)
            assert error.retry_after == (None if seconds is None else timedelta(seconds=seconds))
            assert error.message == f"the base service answered {status}: Busy"


@each_kind
async def test_a_refusal_carries_the_words_of_the_service(kind: str) -> None:
    problem = {"Content-Type": "application/problem+json"}
    async with service(kind) as it:
        it.stub.behave(
            answer({"title": "Bad", "detail": "The text is empty."}, status=422, headers=problem),
            answer({"error": {"message": "no such model"}}, status=404, compressed=True),
            answer(body="x" * 100_000, status=400, headers={"Content-Type": "text/plain"}),
            html(status=403),
        )
        assert (await it.rejected()).message == "the base service answered 422: The text is empty."
        assert (await it.rejected()).message == "the base service answered 404: no such model"
        assert len((await it.rejected()).message) < 600
        error = await it.rejected()
        assert (error.code, error.message) == ("forbidden", "the base service answered 403")


@each_kind
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(kind: str, status: int) -> None:
    async with service(kind) as it:
        it.stub.behave(redirect("/elsewhere?token=secret", status=status))
        error = await it.rejected()
        assert error.code == "redirect_refused"
        assert "secret" not in error.message
        assert [call.path for call in it.stub.calls] == ["/execute"]


INVALID = {
    "html": html(),
    "html under a false name": answer(body="<html>"),
    "text": answer(body="hello", headers={"Content-Type": "text/plain"}),
    "empty": answer(body=""),
    "no content": cut(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "no output": answer({"result": 1}),
    "list": answer([1]),
    "too deep": answer(body="[" * 100_000),
    "not utf-8": answer(body=b'{"output": "\xff"}'),
    "delta without text": events({"delta": 5}, {"output": 1}),
    "event without json": events("hello", {"output": 1}),
}


@each_kind
@pytest.mark.parametrize("name", INVALID)
async def test_nonsense_with_status_200_is_an_invalid_answer(kind: str, name: str) -> None:
    async with service(kind) as it:
        it.stub.behave(INVALID[name])
        error = await it.unavailable()
        assert (error.code, error.answered) == ("invalid_answer", True)
        assert "It works" not in error.message


@each_kind
async def test_an_error_inside_a_stream_is_an_error(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(events({"delta": "a"}, {"error": {"detail": "model crashed"}}, then=hang()))
        error = await it.unavailable()
        assert (error.code, error.answered) == ("server_error", True)
        assert "model crashed" in error.message
        assert it.deltas == ["a"]


@each_kind
async def test_the_body_of_an_error_is_not_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_service.base_services.exchange.ERROR_BODY_SECONDS", 0.2)
    async with service(kind) as it:
        it.stub.behave(trickle(b"x", every=0.05, headers={"Content-Type": "text/plain"}, status=503))
        assert (await it.unavailable(timeout=timedelta(seconds=60))).code == "server_error"
        await it.stub.calls[0].wait_closed()


async def test_a_refusal_sent_before_the_request_was_read_is_understood() -> None:
    refusal = answer({"detail": "too large"}, status=413)

    async def refuse_and_stay(call: RecordedCall, reply: Reply) -> None:
        await refusal(call, reply)
        await hang()(call, reply)

    async with service(path=UNREAD_PREFIX) as it:
        it.stub.behave(refuse_and_stay)
        error = await it.rejected(input="x" * 20_000_000, timeout=timedelta(seconds=60))
        assert "too large" in error.message


@pytest.mark.conformance
@each_kind
async def test_a_service_that_never_reads_its_request_runs_into_the_limit(kind: str) -> None:
    async with service(kind, path=UNREAD_PREFIX) as it:
        it.stub.behave(hang())
        error = await it.unavailable(input="x" * 20_000_000, timeout=timedelta(seconds=0.5))
        assert (error.code, error.answered) == ("timeout", False)


@pytest.mark.conformance
@each_kind
async def test_no_secret_is_in_any_message(kind: str) -> None:
    for behaviour in (
        cut(),
        cut(b"nonsense\r\n\r\n"),
        html(),
        answer({"detail": "bad key secret-key"}, status=401),
    ):
        async with service(kind, credentials="user:pass-word@", api_key="secret-key") as it:
            it.stub.behave(behaviour)
            with pytest.raises(BaseServiceError) as caught:
                await it.call()
            told = "".join(traceback.format_exception(caught.value))
            assert not any(secret in told for secret in ("secret-key", "pass-word"))
