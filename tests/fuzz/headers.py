"""Targets: what reads the headers of calls, the parameters of lists, and the texts that are analysed."""

from datetime import UTC, datetime, timedelta

import h11
from hypothesis import strategies as st
from starlette.datastructures import Headers, QueryParams

from agent_service.api.accepted_type import accepted_type
from agent_service.api.conditional import entity_tag, is_known
from agent_service.api.json_request import check_type
from agent_service.api.list_query import read_list_query
from agent_service.api.preferences import LONGEST_WAIT, read_wait
from agent_service.api.problems import HttpProblem
from agent_service.base_services.asked_wait import asked_wait
from agent_service.domain.retry_after import LONGEST
from agent_service.local.connection_limits import ConnectionLimits
from agent_service.local.strict_connection import StrictConnection
from agent_service.local.text_units import split_sentences, split_words
from tests.fuzz.target import Target, telling_bytes, telling_text

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TAG = entity_tag(b"")
_OFFERED = ("application/json", "text/event-stream")
#: The end of a head after which chunks come.
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def check_preferences(value: bytes) -> None:
    """A wait is more than nothing and no longer than anybody is kept waiting."""
    wait = read_wait(Headers(raw=[(b"prefer", value)]))
    assert wait is None or timedelta(0) < wait <= LONGEST_WAIT


def check_accept(value: bytes) -> None:
    """What is chosen was offered."""
    assert accepted_type([value.decode("latin-1")], _OFFERED) in (None, *_OFFERED)


def check_condition(value: bytes) -> None:
    """A condition is met or it is not."""
    assert is_known(Headers(raw=[(b"if-none-match", value)]), _TAG) in (True, False)


def check_content_type(value: bytes) -> None:
    """A body is JSON in UTF-8, or refused."""
    try:
        check_type(Headers(raw=[(b"content-type", value)]))
    except HttpProblem as refused:
        assert refused.problem.status == 415


def check_limits(text: str) -> None:
    """What a provider says of its limits is a wait that can be added to a date, or nothing."""
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": text}
    for answer in (headers, {"retry-after-ms": text}):
        wait = asked_wait(429, answer, now=_NOW)
        assert wait is None or timedelta(0) <= wait <= LONGEST


def check_list_query(query: str) -> None:
    """A query is read, or every parameter that is wrong is named."""
    try:
        read_list_query(QueryParams(query))
    except HttpProblem as refused:
        assert refused.problem.errors


def check_head(value: bytes) -> None:
    """A head, and chunks after it, are understood or refused."""
    connection = StrictConnection(ConnectionLimits(head_bytes=2**30, headers=2**30))
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: api\r\n" + value)
    try:
        while connection.next_event() not in (h11.NEED_DATA, h11.PAUSED):
            continue
    except h11.RemoteProtocolError as refused:
        assert 400 <= refused.error_status_hint < 600


def check_text(text: str) -> None:
    """Sentences are made of what stands there, in order."""
    place = 0
    for sentence in split_sentences(text):
        place = text.index(sentence, place) + len(sentence)
    assert all(word in text for word in split_words(text))


HEADERS = (
    Target(
        name="Prefer",
        inputs=telling_bytes("wait", "=10", ";", '"', "\\", most=12),
        check=check_preferences,
        large=(
            lambda size: b'"' * size,
            lambda size: b'\\"' * (size // 2),
            lambda size: b'"' + b"\\" * size,
            lambda size: b'a="' + b"b" * size,
            lambda size: b'a,"' * (size // 3),
            lambda size: b"wait" + b" " * size,
            lambda size: b"wait=1" + b" " * size + b"x",
        ),
    ),
    Target(
        name="Accept",
        inputs=telling_bytes("application/json", ";q=", "*/*", ";", most=12),
        check=check_accept,
        large=(
            lambda size: b"a/b," * (size // 4),
            lambda size: b";q=" * (size // 3),
            lambda size: b" " * size,
        ),
    ),
    Target(
        name="If-None-Match",
        inputs=telling_bytes("W/", _TAG, '"', ",", most=12),
        check=check_condition,
        large=(
            lambda size: b'"a",' * (size // 4) + b"x",
            lambda size: b'"a"' + b" ," * (size // 2) + b"x",
            lambda size: b'"' + b"a" * size,
            lambda size: b" " * size + b"x",
        ),
    ),
    Target(
        name="Content-Type",
        inputs=telling_bytes("application/json", ";", "charset", "utf-8", "+json", most=8),
        check=check_content_type,
        large=(
            lambda size: b"application/" + b"a" * size,
            lambda size: b"application/json;charset" + b" " * size,
            lambda size: b"application/json;" + b"charset " * (size // 8),
        ),
    ),
    Target(
        name="limits of a provider",
        inputs=telling_text("ms", "s", "m", "h", "1", "2.5", most=12),
        check=check_limits,
        large=(
            lambda size: "9" * size,
            lambda size: "9" * size + "h",
            lambda size: "1h" * (size // 2),
            lambda size: "1.1." * (size // 4),
        ),
    ),
    Target(
        name="list query",
        inputs=telling_text(
            "status=", "&", "limit=", "metadata.a=", "created_after=", "2026-01-01T00:00:00Z"
        ),
        check=check_list_query,
        large=(
            lambda size: "created_after=2026-01-01T00:00:00." + "1" * size,
            lambda size: "limit=" + "1" * size,
            lambda size: "metadata.a=" + "1" * size,
            lambda size: "status=x&" * (size // 9),
            lambda size: "&".join(f"a{n}=" for n in range(size // 8)),
        ),
    ),
    Target(
        name="head",
        inputs=telling_bytes("a: b", "\r\n", _CHUNKED.decode(), "0\r\n", "5;a=b \r\n", "\x0b", " ", most=12),
        check=check_head,
        large=(
            lambda size: b"X:" + b" " * size + b"\x0b\r\n\r\n",
            lambda size: b"X:" + b"a " * (size // 2) + b"\x0b\r\n\r\n",
            lambda size: b"X: a\r\n" + b" b\r\n" * (size // 4) + b"\r\n",
            lambda size: b"x: y\r\n" * (size // 6) + b"\r\n",
            lambda size: _CHUNKED + b"0\r\nX:" + b" " * size + b"\x0b\r\n\r\n",
            lambda size: _CHUNKED + b"5;" + b" " * size + b"\n\r\n",
            lambda size: _CHUNKED + b"5" + b" " * size + b"\n\r\n",
        ),
    ),
    Target(
        name="text",
        inputs=telling_text("Mr.", "e.g.", "? ", "!)", "\n\n", "。", "’s") | st.text(),
        check=check_text,
        large=(
            lambda size: "." * size,
            lambda size: '."' * (size // 2),
            lambda size: "." + ")" * size,
            lambda size: "\n" + " " * size,
            lambda size: "\n \n" * (size // 3),
            lambda size: "a'" * (size // 2),
        ),
    ),
)
