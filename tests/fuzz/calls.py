"""Targets: what reads the calls of clients."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from fastapi import Request as HttpRequest
from hypothesis import strategies as st
from starlette.datastructures import Headers

from agent_service.api.access import read_authorization
from agent_service.api.caller import read_caller
from agent_service.api.idempotency_key import HEADER, LONGEST_KEY, read_idempotency_key
from agent_service.api.json_request import parse_json
from agent_service.api.problems import HttpProblem
from agent_service.domain.api_key import make_key, read_key_text
from agent_service.domain.errors import InvalidSubmission
from agent_service.domain.events import Cursor, InvalidCursor
from tests.fuzz.target import Target, json_values, telling_bytes, telling_text

#: How JSON is made of values that no JSON has; the parser is to find that out.
_json_bytes = json_values.map(lambda value: json.dumps(value).encode()) | json_values.map(
    lambda value: json.dumps(value, ensure_ascii=False, indent=1).encode(errors="surrogatepass")
)


def check_body(body: bytes) -> None:
    """A body becomes what Python's own decoder makes of it, or is refused."""
    try:
        decoded = parse_json(body)
    except HttpProblem as refused:
        assert refused.problem.status in (400, 413, 415)
    except InvalidSubmission as refused:
        assert refused.problems
    else:
        assert repr(_cut(decoded)) == repr(_cut(json.loads(body, parse_int=_integer)))


def _integer(digits: str) -> int:
    """Python refuses to compute very long ones."""
    return int(digits) if len(digits) < 4_000 else 2**63


def _cut(value: Any) -> Any:
    """The value with all that is outside 64 bits alike."""
    if isinstance(value, dict):
        return {key: _cut(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_cut(child) for child in value]
    outside = isinstance(value, int) and not -(2**63) <= value < 2**63
    return "outside" if outside else value


def check_cursor(text: str) -> None:
    """A cursor that can be read is written so that it reads the same."""
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor as refused:
        assert "\n" not in str(refused)
        return
    assert Cursor.parse(str(cursor)) == cursor


def check_idempotency_key(value: bytes) -> None:
    """A key is visible ASCII, and the same whether it comes quoted or bare."""
    try:
        key = read_idempotency_key(Headers(raw=[(HEADER.lower().encode(), value)]))
    except HttpProblem as refused:
        assert refused.problem.code == "invalid_idempotency_key"
        return
    assert key is not None
    assert 0 < len(key) <= LONGEST_KEY
    assert all("!" <= character <= "~" for character in key)
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert read_idempotency_key(Headers(raw=[(HEADER.lower().encode(), quoted.encode())])) == key


def check_caller(headers: list[tuple[bytes, bytes]]) -> None:
    """What comes of headers can stand in a log line and in a header of ours."""
    call = HttpRequest({"type": "http", "headers": headers})
    try:
        caller = read_caller(call, "acme")
    except HttpProblem as refused:
        assert refused.problem.code == "invalid_header"
        return
    for text in (caller.user_id, caller.correlation_id):
        assert text is None or (text.isprintable() and 0 < len(text) <= 255)
    assert caller.traceparent is None or (len(caller.traceparent) == 55 and caller.traceparent.isascii())


def check_api_key(value: bytes) -> None:
    """What looks like a key has an id and a digest, and its secret is in no text about it."""
    call = HttpRequest({"type": "http", "headers": [(b"authorization", value)]})
    try:
        text = read_authorization(call)
    except HttpProblem as refused:
        assert refused.problem.code == "invalid_key"
        return
    assert text is not None
    key = read_key_text(text)
    if key is None:
        return
    assert re.fullmatch(r"[0-9a-f]{16}", key.id, re.ASCII)
    assert re.fullmatch(r"[0-9a-f]{64}", key.digest, re.ASCII)
    assert text == f"ask_live_{key.id}_{text[-64:]}"
    assert text[-64:] not in repr(key)


_KEY_TEXT = make_key("acme", now=datetime(2026, 1, 1, tzinfo=UTC))[1].encode()
_key_bytes = st.builds(
    lambda before, start, end, after: before + _KEY_TEXT[start:end] + after,
    st.sampled_from([b"Bearer ", b"bearer  ", b"Basic ", b"", b"Bearer\t"]),
    st.sampled_from([0, 0, 0, 1, 9]),
    st.sampled_from([None, None, None, -1, 25]),
    st.sampled_from([b"", b"", b" ", b"0", b"\n", b"\xd9\xa0", b"\xff"]),
)
_names = st.sampled_from([b"x-user-id", b"x-correlation-id", b"traceparent", b"authorization"])
_trace = st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.?", fullmatch=True)
_header_bytes = telling_bytes(most=6) | _trace.map(lambda text: text.encode(errors="replace"))

CALLS = (
    Target(
        name="JSON body",
        inputs=_json_bytes | telling_bytes(),
        check=check_body,
        large=(
            lambda size: b"[" * size,
            lambda size: b'{"":' * (size // 4),
            lambda size: b"[" + b"9" * (size - 2) + b"]",
            lambda size: b'{"a":1' + b',"a":1' * (size // 6) + b"}",
            lambda size: b'"' + b"\\u0000" * (size // 6) + b'"',
            lambda size: b"[" + b"1e5," * (size // 4) + b"0]",
            lambda size: b" " * size,
            lambda size: b'{"a":1,"a":1,"' + b"k" * (size // 2) + b'":[' + b"0," * (size // 4) + b"0]}",
            lambda size: b'{"' + b"k" * (size // 2) + b'":[' + b'{"a":1,"a":1},' * (size // 28) + b"0]}",
        ),
    ),
    Target(
        name="cursor",
        inputs=telling_text(",draft:1.2", "1.17", "0.0", most=8),
        check=check_cursor,
        large=(
            lambda size: "@0" + ",a:1.1" * (size // 6),
            lambda size: "@0," + "".join(f"a{n}:1.1," for n in range(size // 10)) + "z:end",
            lambda size: "@0,a:" + "1" * size,
            lambda size: "," * size,
        ),
    ),
    Target(
        name="Idempotency-Key",
        inputs=telling_bytes('"', "\\", most=8) | st.binary(max_size=300),
        check=check_idempotency_key,
        large=(
            lambda size: b'"' + b"\\\\" * (size // 2),
            lambda size: b'"' * size,
            lambda size: b"a" * size,
        ),
    ),
    Target(
        name="API key",
        inputs=_key_bytes | telling_bytes("Bearer ", "ask_live_", "_", "0123456789abcdef", most=12),
        check=check_api_key,
        large=(
            lambda size: b"Bearer " + b"a" * size,
            lambda size: b"Bearer ask_live_" + b"0" * size,
            lambda size: b" " * size,
            lambda size: b"Bearer " + b"_" * size,
        ),
    ),
    Target(
        name="caller and traceparent",
        inputs=st.lists(st.tuples(_names, _header_bytes), max_size=5),
        check=check_caller,
        large=(
            lambda size: [(b"x-user-id", b"\xff" * size)],
            lambda size: [(b"traceparent", b"00-" + b"0" * size)],
            lambda size: [(b"x-correlation-id", "é".encode() * (size // 2))],
        ),
    ),
)
