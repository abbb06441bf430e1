"""Streamed chat completions, whole and broken, over every kind of HTTP client."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from tests.support.base_service_behaviours import (
    Behaviour,
    RecordedCall,
    Reply,
    answer,
    cut,
    events,
    hang,
    html,
    stream,
    trickle,
)
from tests.support.base_service_clients import Service, each_kind, service

STREAM = {"Content-Type": "text/event-stream"}
LONG = timedelta(seconds=60)


def chunk(text: str | None = None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"model": "tiny", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


STOP = chunk(finish_reason="stop")
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
WHOLE = BaseServiceAnswer(
    output={"text": "Héllo 😀", "model": "tiny", "finish_reason": "stop"},
    usage={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
)


def openai(kind: str, **options: Any) -> Any:
    return service(kind, path="/v1", protocol="openai", model="tiny", **options)


def wire(end: str = "\n", *, mark: bool = True) -> bytes:
    """A stream as odd as the standard allows: a byte order mark, comments, data over several lines."""
    first = json.dumps(chunk("Hé"), ensure_ascii=False, indent=1).splitlines()
    lines = [": OPENROUTER PROCESSING", "", "event: message", *(f"data: {line}" for line in first), ""]
    for value in (chunk("llo 😀"), STOP, USAGE):
        lines += ["id: 1", f"data:{json.dumps(value, ensure_ascii=False)}", "", ":", "", "data:", ""]
    lines += ["data: [DONE]", ""] if mark else []
    return b"\xef\xbb\xbf" + "".join(line + end for line in lines).encode()


@each_kind
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [True, False], ids=["with [DONE]", "without [DONE]"])
async def test_the_answer_does_not_depend_on_how_the_bytes_come(kind: str, end: str, mark: bool) -> None:
    body = wire(end, mark=mark)
    byte_by_byte: Sequence[bytes] = [body[place : place + 1] for place in range(len(body))]
    async with openai(kind) as it:
        it.stub.behave(stream([body], headers=STREAM), stream(byte_by_byte, headers=STREAM))
        for _ in range(2):
            it.deltas.clear()
            assert await it.call() == WHOLE
            assert it.deltas == ["Hé", "llo 😀"]


BROKEN: dict[str, tuple[Behaviour, str]] = {
    "cut in the middle": (events(chunk("a"), then=cut()), "connection_lost"),
    "cut after its reason": (events(chunk("a"), STOP, then=cut()), "connection_lost"),
    "cut inside a chunk": (events(chunk("a"), then=cut(b"30\r\ndata: {")), "connection_lost"),
    "ended without a reason": (events(chunk("a")), "incomplete_answer"),
    "marked as done without a reason": (events(chunk("a"), "[DONE]"), "incomplete_answer"),
    "nothing at all": (events(), "incomplete_answer"),
    "a chunk that is no JSON": (events(chunk("a"), "{nonsense", STOP, "[DONE]"), "invalid_answer"),
    "a chunk that is a list": (events(chunk("a"), [1], STOP, "[DONE]"), "invalid_answer"),
    "a page of HTML": (html(), "invalid_answer"),
    "a page of HTML called a stream": (answer(body="<html>\n\n", headers=STREAM), "incomplete_answer"),
    "an error": (events(chunk("a"), {"error": {"message": "crashed"}}, then=hang()), "server_error"),
    "an error event": (answer(body="event: error\ndata: crashed\n\n", headers=STREAM), "server_error"),
    "given up": (events(chunk("a"), chunk(finish_reason="error"), "[DONE]"), "server_error"),
}


@each_kind
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_stream_is_a_failed_attempt_and_never_a_short_answer(kind: str, name: str) -> None:
    behaviour, code = BROKEN[name]
    async with openai(kind) as it:
        it.stub.behave(behaviour, events(chunk("Héllo 😀"), STOP, USAGE, "[DONE]"))
        error = await it.unavailable(timeout=LONG)
        assert (error.code, error.answered) == (code, True)
        assert await it.call(timeout=LONG) == WHOLE


@each_kind
async def test_a_stream_that_falls_silent_is_given_up_before_the_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.base_services.exchange.SILENCE_SECONDS", 0.2)
    async with openai(kind) as it:
        it.stub.behave(events(chunk("a"), then=hang()))
        error = await it.unavailable(timeout=LONG)
        assert (error.code, error.answered) == ("timeout", True)
        assert "nothing for 0.2 s" in error.message
        await it.stub.calls[0].wait_closed()


@each_kind
async def test_comments_that_keep_a_stream_alive_are_no_silence(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.base_services.exchange.SILENCE_SECONDS", 30)
    async with openai(kind) as it:
        it.stub.behave(trickle(b": still here\n\n", every=0.02, headers=STREAM))
        error = await it.unavailable(timeout=timedelta(seconds=0.5))
        assert "no whole answer in 0.5 s" in error.message


REFUSALS: dict[str, tuple[Behaviour, str, str]] = {
    "context too small": (
        answer({"error": {"message": "16 tokens", "code": "context_length_exceeded"}}, status=400),
        "context_length_exceeded",
        "the base service answered 400: 16 tokens",
    ),
    "filtered": (
        answer({"error": {"message": "not this", "code": "content_filter", "status": 400}}, status=400),
        "content_filter",
        "the base service answered 400: not this",
    ),
    "wrong key": (
        answer({"error": {"message": "no secret-key", "code": "invalid_api_key"}}, status=401),
        "unauthorized",
        "the base service answered 401: no ***",
    ),
    "wrong password": (
        answer({"error": {"message": "no pass-word, dXNlcjpwYXNzLXdvcmQ="}}, status=403),
        "forbidden",
        "the base service answered 403: no ***, ***",
    ),
    "unpaid": (answer(status=402, body=""), "rejected", "the base service answered 402"),
    "in the stream": (
        events(chunk("a"), {"error": {"message": "secret-key filtered", "code": "content_filter"}}),
        "content_filter",
        "the base service reported an error: *** filtered",
    ),
}


@each_kind
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_final_and_has_a_code_of_its_own(kind: str, name: str) -> None:
    behaviour, code, message = REFUSALS[name]
    async with openai(kind, credentials="user:pass-word@", api_key="secret-key") as it:
        it.stub.behave(behaviour)
        error = await it.rejected()
        assert (error.code, error.message) == (code, message)


@each_kind
async def test_a_server_that_loads_its_model_or_is_busy_is_asked_again(kind: str) -> None:
    loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    used_up = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}
    async with openai(kind) as it:
        it.stub.behave(
            answer(loading, status=503),
            answer({"error": {"message": "slow"}}, status=429, headers={"Retry-After-Ms": "1500"}),
            answer({"error": {"message": "slow"}}, status=429, headers=used_up),
            html(status=502),
        )
        found = [await it.unavailable() for _ in range(4)]
    assert [(error.code, error.retry_after) for error in found] == [
        ("server_error", None),
        ("rate_limited", timedelta(seconds=1.5)),
        ("rate_limited", timedelta(seconds=90)),
        ("server_error", None),
    ]
    assert found[0].message == "the base service answered 503: Loading model"
    assert found[3].message == "the base service answered 502"


@each_kind
async def test_tool_calls_are_the_same_streamed_or_not(kind: str) -> None:
    arguments = '{"city":  "Zürich",\n "days": 1e0}'
    pieces = [arguments[place : place + 3] for place in range(0, len(arguments), 3)]
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [first, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
    deltas = [{"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]} for part in parts]
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    async with openai(kind) as it:
        it.stub.behave(events(*deltas, chunk(finish_reason="tool_calls"), "[DONE]"), answer(body))
        streamed, whole = await it.call(), await it.call()
    assert streamed == whole
    assert streamed.output == {
        "text": "",
        "model": "tiny",
        "finish_reason": "tool_calls",
        "tool_calls": [call],
    }


@pytest.mark.conformance
@each_kind
async def test_a_server_that_closes_after_each_stream_without_a_word_costs_no_call(kind: str) -> None:
    seen: set[int] = set()

    async def once_per_connection(call: RecordedCall, reply: Reply) -> None:
        # What llama.cpp does, although it says "Keep-Alive: timeout=5" before.
        again = call.connection in seen
        seen.add(call.connection)
        await (cut() if again else events(chunk("Héllo 😀"), STOP, USAGE, "[DONE]"))(call, reply)

    async with openai(kind) as it:
        it.stub.behave(once_per_connection)
        for _ in range(3):
            assert await it.call() == WHOLE
        assert {call.headers["connection"] for call in it.stub.calls} == {"close"}


async def _long(it: Service, words: int) -> BaseServiceAnswer:
    # As wide as the chunks of the big providers.
    padding = {"id": "chatcmpl-" + "x" * 30, "obfuscation": "y" * 200}
    chunks = [chunk("word ") | padding for _ in range(words)]
    it.stub.behave(events(*chunks, STOP, "[DONE]"))
    return await it.call(timeout=LONG)


@each_kind
async def test_a_long_answer_is_measured_by_its_text_and_not_by_its_wrapping(kind: str) -> None:
    async with openai(kind, max_answer_bytes=20_000) as it:
        output: Any = (await _long(it, 200)).output
        assert output["text"] == "word " * 200
        it.stub.behave(events(*[chunk("w" * 1000)] * 21, STOP, "[DONE]"))
        assert (await it.rejected()).code == "answer_too_large"
        it.stub.behave(events(*[chunk("w")] * 1000, STOP, "[DONE]"))
        assert (await it.rejected()).code == "answer_too_large"
