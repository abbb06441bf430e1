"""Targets: what reads the answers of base services."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from agent_service.base_services.error_message import LONGEST_MESSAGE, find_error, message_of
from agent_service.base_services.execute_protocol import ExecuteProtocol
from agent_service.base_services.json_body import parse_object
from agent_service.base_services.openai_protocol import OpenAIProtocol
from agent_service.base_services.protocol import ServiceProtocol
from agent_service.base_services.sse import EventDecoder, ServerSentEvent
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected
from agent_service.domain.retry_after import LONGEST, parse_retry_after
from tests.fuzz.target import Target, json_values, telling_bytes, telling_text

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_BYTES = 4_000_000
#: A stream up to here is also fed byte by byte.
_MOST_SPLIT = 1_000
#: Characters that a log or a terminal could take for something else than text.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def check_stream(pieces: list[bytes]) -> None:
    """The same events come of the same bytes, however they are split."""
    whole = b"".join(pieces)
    events = _decode([whole])
    assert _decode(pieces) == events
    if len(whole) < _MOST_SPLIT:
        assert _decode([whole[i : i + 1] for i in range(len(whole))]) == events
    try:
        _decode(pieces, limit=20)
    except BaseServiceRejected as refused:
        assert refused.code == "answer_too_large"


def _decode(pieces: list[bytes], *, limit: int = _MOST_BYTES) -> list[ServerSentEvent]:
    decoder = EventDecoder(limit)
    return [event for piece in pieces for event in decoder.feed(piece)]


def check_answer(case: tuple[ServiceProtocol, list[str]]) -> None:
    """Events and bodies of any shape become an answer or an error of the service, and nothing else."""
    protocol, events = case
    for text in events:
        try:
            protocol.read_object(parse_object(text))
        except BaseServiceError as error:
            _check_error(error)
    reading = protocol.read_stream()
    try:
        deltas = [reading.take(text) for text in events]
        answer = reading.answer()
    except BaseServiceError as error:
        _check_error(error)
        return
    assert all(isinstance(delta, str) for delta in deltas)
    assert answer.usage is None or isinstance(answer.usage, dict)


def _check_error(error: BaseServiceError) -> None:
    assert not _UNSAFE & {unicodedata.category(character) for character in error.message}
    assert len(error.message) <= 2 * LONGEST_MESSAGE


def check_message(case: tuple[str, bytes]) -> None:
    """What a service says of its error is one line that is not too long."""
    message = message_of(find_error(*case))
    assert len(message) <= LONGEST_MESSAGE
    assert not _UNSAFE & {unicodedata.category(character) for character in message}


def check_retry_after(case: tuple[str | None, str | None]) -> None:
    """A wait is never negative nor longer than can be added to a date."""
    value, date = case
    wait = parse_retry_after(value, now=_NOW, date=date)
    assert wait is None or timedelta(0) <= wait <= LONGEST


_members = st.sampled_from(
    [
        "output",
        "usage",
        "error",
        "delta",
        "choices",
        "message",
        "content",
        "finish_reason",
        "model",
        "tool_calls",
        "index",
        "function",
        "arguments",
        "prompt_tokens",
        "status",
        "code",
        "detail",
        "retryable",
    ]
)
_objects: st.SearchStrategy[Any] = st.recursive(
    json_values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_members, inner, max_size=5)
)
_event_text = _objects.map(json.dumps) | telling_text() | st.just("[DONE]")
_dates = st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
_waits = (
    _dates | telling_text("120", "Wed, 21 Oct 2026 07:28:00 GMT", "+", "-", most=6) | st.floats().map(str)
)

ANSWERS = (
    Target(
        name="event stream",
        inputs=st.lists(telling_bytes(most=8), max_size=8),
        check=check_stream,
        large=(
            lambda size: [b"data:\n" * (size // 6)],
            lambda size: [b"\r" * size],
            lambda size: [b"\n"] * (size // 10),
            lambda size: [b"data: " + b"x" * size, b"\n\n"],
            lambda size: [b"d"] * (size // 10),
            lambda size: [b":" + b"\xff" * size],
        ),
    ),
    Target(
        name="answer",
        inputs=st.tuples(
            st.sampled_from([ExecuteProtocol(), OpenAIProtocol("m")]), st.lists(_event_text, max_size=5)
        ),
        check=check_answer,
        large=(
            lambda size: (ExecuteProtocol(), ["[" * size]),
            lambda size: (ExecuteProtocol(), ['{"delta": "x"}'] * (size // 14)),
            lambda size: (OpenAIProtocol("m"), ['{"choices": [{"delta": {"content": "x"}}]}'] * (size // 40)),
            lambda size: (
                OpenAIProtocol("m"),
                ['{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}}]}']
                * (size // 80),
            ),
            lambda size: (ExecuteProtocol(), ['{"error": ' * (size // 10)]),
        ),
    ),
    Target(
        name="error message",
        inputs=st.tuples(
            st.sampled_from(["", "text/html", "application/problem+json"]),
            telling_bytes("<html>") | _objects.map(lambda value: json.dumps(value).encode()),
        ),
        check=check_message,
        large=(
            lambda size: ("", b" " * size),
            lambda size: ("", b'{"error":' * (size // 9)),
            lambda size: ("", b"\x00" * size),
            lambda size: ("", b'"' + b"\\n" * (size // 2) + b'"'),
        ),
    ),
    Target(
        name="Retry-After",
        inputs=st.tuples(st.none() | _waits, st.none() | _waits),
        check=check_retry_after,
        large=(
            lambda size: ("9" * size, None),
            lambda size: ("Wed, 21 Oct " + "2" * size + " 07:28:00 GMT", None),
            lambda size: ("(" * size, ")" * size),
            lambda size: (" " * size + "1", ":" * size),
        ),
    ),
)
