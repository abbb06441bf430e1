"""Damage: a wrong type for each stored field, taken from documents that the system itself has written."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

#: A value of each type, the odd ones too; which of them are wrong depends on the field.
VALUES: Mapping[str, Any] = {
    "string": "odd",
    "int32": 7,
    "int64": Int64(2**62),
    "double": 1.5,
    "bool": True,
    "decimal": Decimal128("1.5"),
    "objectId": ObjectId("65f0c0ffee65f0c0ffee65f0"),
    "null": None,
    "array": [1],
    "object": {"odd": 1},
    "date": datetime(2020, 1, 1, tzinfo=UTC),
    "far date": DatetimeMS(2**60),
    "regex": Regex("odd"),
    "binary": b"odd",
    "timestamp": Timestamp(1, 1),
    "minKey": MinKey(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One field of one kind of document, and the value that it gets."""

    collection: str
    field: str
    value_name: str

    def __str__(self) -> str:
        return f"{self.collection} {self.field}={self.value_name}"

    def of(self, document: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        """A copy with other ids (see `renamed`), in which this field is damaged."""
        copy = renamed(document, names)
        place: Any = copy
        *path, last = self.field.split(".")
        for name in path:
            place = place[int(name) if isinstance(place, list) else name]
        place[last] = VALUES[self.value_name]
        return copy


def renamed(document: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A copy in which ids have other names, old to new, wherever they stand."""
    copy = deepcopy(dict(document))
    for old, new in names.items():
        copy = {
            name: value.replace(old, new) if isinstance(value, str) else value for name, value in copy.items()
        }
    return copy


def damages_of(collection: str, document: Mapping[str, Any]) -> Iterator[Damage]:
    """Every wrong type for every field of a document, as deep as objects go; its id cannot be changed."""
    for field, value in fields_of(document):
        for name, wrong in VALUES.items():
            if type(wrong) is not type(value):
                yield Damage(collection=collection, field=field, value_name=name)


def fields_of(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted names and the values of all fields but the id, objects before what is in them."""
    for name, value in document.items():
        if name == "_id":
            continue
        yield f"{prefix}{name}", value
        if isinstance(value, dict) and value:
            yield from fields_of(value, f"{prefix}{name}.")
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from fields_of(value[0], f"{prefix}{name}.0.")
