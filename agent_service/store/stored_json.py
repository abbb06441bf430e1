"""Stored JSON: values of clients and services as BSON decodes them, and what of it is no JSON."""

from collections.abc import Mapping
from typing import Any, cast

from bson.dbref import DBRef
from bson.int64 import Int64

from agent_service.domain.json_value import JsonObject, JsonValue

_PLAIN = frozenset({str, bool, int, Int64, float, type(None)})


class NotJsonError(ValueError):
    """A stored value is not JSON; the message is its type, never the value."""


def json_of(value: Any) -> JsonValue:
    """
    A stored JSON value as it was: BSON decodes an object with `$ref` and `$id` as a reference.

    Raises `NotJsonError`.
    """
    # Most values are texts; an abstract class would be asked at several times the cost of a plain one.
    if isinstance(value, str):
        return value
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return {key: json_of(child) for key, child in value.items()}
    if isinstance(value, list):
        return [json_of(child) for child in value]
    if type(value) not in _PLAIN:
        raise NotJsonError(type(value).__name__)
    # A number, a truth value or null.
    return cast("JsonValue", value)


def json_object_of(value: Any) -> JsonObject:
    """A stored JSON object as it was; empty if there is none. Raises `NotJsonError`."""
    if value is None:
        return {}
    found = json_of(value)
    if not isinstance(found, Mapping):
        raise NotJsonError(type(value).__name__)
    return found


def is_json(value: Any) -> bool:
    """Whether a stored value is JSON all the way down."""
    try:
        json_of(value)
    except NotJsonError:
        return False
    return True
