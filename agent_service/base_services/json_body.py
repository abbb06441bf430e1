"""JSON on the wire: what we send is strict, what we get may be anything."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import orjson

from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.json_value import JsonObject, JsonValue

#: What is no JSON is left to `_plain`, which refuses it.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
#: Makes a zero of each digit, and of nothing else.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0 for byte in range(256))
#: The shortest integers that do not fit into 64 bits, translated so.
_LONG_NUMBER = b"0" * 19


def dump_json(value: JsonObject) -> bytes:
    """The bytes of a request body; raises BaseServiceRejected("invalid_input") for what is not JSON."""
    try:
        written = orjson.dumps(value, _plain, _OPTIONS)
    except orjson.JSONEncodeError:
        return _dump_slowly(value)
    # NaN and Infinity are written as null, too.
    return _dump_slowly(value) if b"null" in written else written


def _dump_slowly(value: JsonObject) -> bytes:
    """Do the same with the standard library, which takes integers of any size and refuses NaN."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BaseServiceRejected("invalid_input", "the input cannot be written as JSON") from error


def parse_json(text: bytes | str) -> JsonValue:
    """The value of an answer or an event; raises BaseServiceUnavailable("invalid_answer")."""
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    # orjson makes floats of integers that do not fit into 64 bits, and refuses some that is valid.
    if _LONG_NUMBER not in raw.translate(_DIGITS):
        with suppress(orjson.JSONDecodeError):
            return cast(JsonValue, orjson.loads(raw))
    try:
        return cast(JsonValue, json.loads(text))
    except (ValueError, RecursionError) as error:
        raise invalid_answer("what is not JSON") from error


def parse_object(text: bytes | str) -> JsonObject:
    """Like `parse_json`, for an answer that must be a JSON object."""
    value = parse_json(text)
    if not isinstance(value, Mapping):
        raise invalid_answer(f"a JSON {type(value).__name__} where an object belongs")
    return value


def invalid_answer(what: str) -> BaseServiceUnavailable:
    """The service answered, with something that breaks its contract."""
    return BaseServiceUnavailable("invalid_answer", f"the base service sent {what}", answered=True)


def incomplete_answer(what: str) -> BaseServiceUnavailable:
    """The stream ended in good order, before the answer was whole."""
    return BaseServiceUnavailable(
        "incomplete_answer", f"the stream of the base service ended before {what}", answered=True
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")
