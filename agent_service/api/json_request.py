"""The JSON body of a call: counted while it is read, and decoded without losing or inventing anything."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from typing import NamedTuple

from fastapi import Request as HttpRequest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from agent_service.api.problems import HttpProblem, refuse
from agent_service.domain.errors import FieldProblem, InvalidSubmission
from agent_service.domain.json_value import MAX_DEPTH, MAX_INTEGER, join_pointer, walk
from agent_service.domain.planning import MAX_PROBLEMS

_JSON_TYPE = re.compile(r"application/(?:[\w.!#$&^-]+\+)?json", re.ASCII)
#: No integer of 64 bits has more characters, its sign included.
_LONGEST_INTEGER = 20
#: A body that takes longer to arrive is given up, where nothing else is said.
READ_WITHIN = timedelta(seconds=30)


class BodyLimit(NamedTuple):
    """How large the body of a call may be, and how long it may take to arrive."""

    max_bytes: int
    within: timedelta = READ_WITHIN


async def read_json(call: HttpRequest, *, limit: BodyLimit) -> object:
    """
    The decoded body, of which never more than the limit and one piece are held.

    Raises HttpProblem (415, 413, 400) or InvalidSubmission. Numbers that no JSON has (NaN) and integers that
    do not fit are left to be found with their place by whoever checks the values.
    """
    return parse_json(await read_body(call, limit=limit))


async def read_body(call: HttpRequest, *, limit: BodyLimit) -> bytes:
    """
    The body of a call that says that it is JSON, of which never more than the limit and one piece are held.

    Raises HttpProblem (415, 413).
    """
    check_type(call.headers)
    return await _read(call, limit)


async def read_optional_json(call: HttpRequest, *, limit: BodyLimit) -> object:
    """Like `read_json`, of a call that may have no body; then an empty object."""
    body = await _read(call, limit)
    if not body:
        return {}
    check_type(call.headers)
    return parse_json(body)


def parse_json(body: bytes) -> object:
    """
    Decode JSON in UTF-8; what is outside 64 bits stays outside.

    Raises HttpProblem (400) with the position of the error, or InvalidSubmission for names that an object
    has twice and for nesting that is far too deep.
    """
    decoded, repetitions = decode_json(body)
    problems = list(islice(repetitions, MAX_PROBLEMS))
    if problems:
        raise InvalidSubmission(problems)
    return decoded


def decode_json(body: bytes) -> tuple[object, Iterator[FieldProblem]]:
    """
    Like `parse_json`, with the places of the names that an object has twice instead of their error.

    Of these the last one is in the decoded value.
    """
    try:
        return _DECODER.decode(body.decode()), iter(())
    except (_RepeatedName, ValueError, RecursionError):
        return _decode_with_places(body)


def _decode_with_places(body: bytes) -> tuple[object, Iterator[FieldProblem]]:
    """Decode what something is wrong with, and tell where."""
    repeated: list[tuple[dict[str, object], str]] = []

    def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            repeated.extend((made, name) for name, count in counts.items() if count > 1)
        return made

    try:
        decoded: object = json.loads(body.decode(), object_pairs_hook=make_object, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise _not_json(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno} (character {error.pos})"
        raise _not_json(f"{error.msg} at {where}") from error
    except RecursionError as error:
        detail = f"nested deeper than {MAX_DEPTH} levels"
        raise InvalidSubmission([FieldProblem(pointer="", detail=detail)]) from error
    return decoded, _repetitions(decoded, repeated)


class _RepeatedName(Exception):
    """An object has a name twice."""


def _make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _RepeatedName
    return made


def _integer(digits: str) -> int:
    """Long ones are not computed: any number outside 64 bits is refused alike."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else MAX_INTEGER + 1


#: Made once: making it takes longer than decoding a small body.
_DECODER = json.JSONDecoder(object_pairs_hook=_make_object, parse_int=_integer)


def _repetitions(decoded: object, repeated: list[tuple[dict[str, object], str]]) -> Iterator[FieldProblem]:
    """
    The places of the names that objects had twice; those inside a replaced value have none.

    What is nested too deep is refused for that, and not looked through.
    """
    names: dict[int, list[str]] = {}
    for made, name in repeated:
        names.setdefault(id(made), []).append(name)
    for where, item, _ in walk(decoded):
        for name in names.get(id(item), ()):
            yield FieldProblem(
                pointer=join_pointer(where, name), detail="an object must not have the same name twice"
            )


def check_type(headers: Headers) -> None:
    """Raises HttpProblem (415) unless these say that the body is JSON in UTF-8."""
    content_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    if not _JSON_TYPE.fullmatch(content_type.strip()):
        raise _unsupported("the body must be sent as Content-Type: application/json")
    charset = re.search(r'charset\s*=\s*"?([^\s";]*)', parameters) if parameters else None
    if charset is not None and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise _unsupported("JSON is sent in UTF-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported("the body must be sent without Content-Encoding")


async def _read(call: HttpRequest, limit: BodyLimit) -> bytes:
    max_bytes, within = limit
    declared = call.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > max_bytes):
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await _read_all(call.receive, max_bytes)
    except TimeoutError:
        seconds = within.total_seconds()
        raise refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            "body_too_slow",
            f"the body did not arrive within {seconds:g} s",
            headers={"Connection": "close"},
        ) from None


async def _read_all(receive: Receive, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    left = max_bytes
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        left -= len(pieces[-1])
        if left < 0:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_large(max_bytes: int) -> HttpProblem:
    # The rest of the body is not read, so nothing else can come over this connection; the server sees to it
    # that who still sends it reads this.
    detail = f"the body is larger than {max_bytes} bytes"
    return refuse(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", detail, headers={"Connection": "close"}
    )


def _unsupported(detail: str) -> HttpProblem:
    return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)


def _not_json(detail: str) -> HttpProblem:
    return refuse(HTTPStatus.BAD_REQUEST, "invalid_json", f"the body is not JSON: {detail}")
