"""Reading fields of JSON objects that a later version may have changed: what is not as expected is absent."""

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from agent_service.domain.json_value import JsonObject


def as_object(value: object) -> JsonObject | None:
    """The value if it is a JSON object."""
    return cast("JsonObject", value) if isinstance(value, Mapping) else None


def text_or_none(raw: JsonObject, name: str) -> str | None:
    """A field that holds text."""
    value = raw.get(name)
    return value if isinstance(value, str) else None


def text_of(raw: JsonObject, name: str) -> str:
    """A field that holds text; empty where there is none."""
    return text_or_none(raw, name) or ""


def integer_or_none(raw: JsonObject, name: str) -> int | None:
    """A field that holds a whole number."""
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def integer_of(raw: JsonObject, name: str) -> int:
    """A field that holds a whole number; 0 where there is none."""
    return integer_or_none(raw, name) or 0


def moment_or_none(raw: JsonObject, name: str) -> datetime | None:
    """A field that holds a moment of RFC 3339; one without a zone counts as absent."""
    try:
        moment = datetime.fromisoformat(text_of(raw, name))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def object_of(raw: JsonObject, name: str) -> JsonObject:
    """A field that holds an object; empty where there is none."""
    return as_object(raw.get(name)) or {}


def objects_of(raw: JsonObject, name: str) -> list[JsonObject]:
    """The objects in a field that holds a list."""
    items = raw.get(name)
    if not isinstance(items, list | tuple):
        return []
    return [found for item in items if (found := as_object(item)) is not None]
