import asyncio
import contextlib
import json
from datetime import timedelta

import pytest
from fastapi import Request as HttpRequest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from agent_service.api.json_request import BodyLimit, parse_json, read_json, read_optional_json
from agent_service.api.problems import HttpProblem
from agent_service.domain.errors import InvalidSubmission

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


def call(pieces: list[bytes], **headers: str) -> tuple[HttpRequest, list[bytes]]:
    """A call with this body, and what of the body was not read yet."""
    left = list(pieces)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HttpRequest({"type": "http", "method": "POST", "headers": raw}, receive), left


def code_of(problem: HttpProblem) -> tuple[int, str]:
    return problem.problem.status, problem.problem.code


@given(json_values)
def test_what_json_can_say_is_read_unchanged(value: object) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=60) | st.text('[]{}",:0123456789eE+-.nulltrfasNI\\', max_size=40).map(str.encode))
def test_no_bytes_raise_anything_but_their_own_errors(body: bytes) -> None:
    with contextlib.suppress(HttpProblem, InvalidSubmission):
        parse_json(body)


@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b"", "line 1 column 1"),
        (b'{\n "a": tru}', "line 2 column 7 (character 8)"),
        (b'{"a": 1} x', "line 1 column 10"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "line 1 column 1"),
    ],
)
def test_what_is_not_json_is_refused_with_the_position(body: bytes, position: str) -> None:
    with pytest.raises(HttpProblem) as caught:
        parse_json(body)
    assert code_of(caught.value) == (400, "invalid_json")
    assert position in caught.value.problem.detail


def test_every_repeated_name_is_found_in_its_place() -> None:
    with pytest.raises(InvalidSubmission) as caught:
        parse_json(b'{"a": [0, {"x/y": 1, "x/y": 2, "z": {"n": 1, "n": 1, "n": 1}}], "b": {"b": 1}}')
    assert [problem.pointer for problem in caught.value.problems] == ["/a/1/x~1y", "/a/1/z/n"]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", "application/a.b+json"]
)
async def test_json_types_are_read(kind: str) -> None:
    request, _ = call([b'{"a"', b": 1}"], content_type=kind)
    assert await read_json(request, limit=BodyLimit(100)) == {"a": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "text/plain"},
        {"content_type": "application/jsonp"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/json; charset=latin-1"},
        {"content_type": "application/json", "content_encoding": "gzip"},
    ],
)
async def test_other_types_are_refused_unread(headers: dict[str, str]) -> None:
    request, left = call([b"{}"], **headers)
    with pytest.raises(HttpProblem) as caught:
        await read_json(request, limit=BodyLimit(100))
    assert code_of(caught.value) == (415, "unsupported_media_type")
    assert left


@pytest.mark.parametrize("length", ["101", "9" * 5000])
async def test_a_declared_length_over_the_limit_is_refused_unread(length: str) -> None:
    fields = {"content_type": "application/json", "content_length": length}
    request, left = call([b"{}"], **fields)
    with pytest.raises(HttpProblem) as caught:
        await read_json(request, limit=BodyLimit(100))
    assert code_of(caught.value) == (413, "body_too_large")
    assert left


async def test_reading_ends_with_the_piece_that_is_over_the_limit() -> None:
    request, left = call([b"x" * 60] * 10, content_type="application/json")
    with pytest.raises(HttpProblem) as caught:
        await read_json(request, limit=BodyLimit(100))
    assert code_of(caught.value) == (413, "body_too_large")
    assert len(left) == 8


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    headers = [(b"content-type", b"application/json")]
    request = HttpRequest({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(HttpProblem) as caught:
        await read_json(request, limit=BodyLimit(100, timedelta(milliseconds=20)))
    assert code_of(caught.value) == (408, "body_too_slow")


async def test_a_body_that_may_be_left_out_is_an_empty_object_then_and_else_like_any_other() -> None:
    nothing, _ = call([b""])
    assert await read_optional_json(nothing, limit=BodyLimit(100)) == {}
    some, _ = call([b'{"a"', b": 1}"], content_type="application/json")
    assert await read_optional_json(some, limit=BodyLimit(100)) == {"a": 1}
    untyped, _ = call([b"{}"])
    with pytest.raises(HttpProblem) as caught:
        await read_optional_json(untyped, limit=BodyLimit(100))
    assert code_of(caught.value) == (415, "unsupported_media_type")
