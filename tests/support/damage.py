"""Damage: a wrong type for each stored field, in copies of documents that the system itself has written."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

Document = dict[str, Any]

#: A value of each type, the odd ones too; which of them are wrong depends on the field.
VALUES: Mapping[str, Any] = {
    "string": "odd",
    "int32": -7,
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
    "far past date": DatetimeMS(-(10**15)),
    "regex": Regex("odd"),
    "binary": b"odd",
    "timestamp": Timestamp(1, 1),
    "minKey": MinKey(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    One document and those that belong to it, such as a request and its contexts, each with its collection.

    `name` is what stands in all of their ids.
    """

    name: str
    collection: str
    document: Document
    others: Sequence[tuple[str, Document]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One field of the first document of a group, and the value that it gets."""

    group: Group
    field: str
    value_name: str

    def __str__(self) -> str:
        return f"{self.group.collection} {self.field}={self.value_name}"

    def copy(self) -> Group:
        """The group under a name of its own, with this field damaged."""
        old, new = self.group.name, uuid.uuid4().hex
        document = _renamed(self.group.document, old, new)
        place: Any = document
        *path, last = self.field.split(".")
        for name in path:
            place = place[int(name) if isinstance(place, list) else name]
        place[last] = VALUES[self.value_name]
        others = [(collection, _renamed(other, old, new)) for collection, other in self.group.others]
        return Group(name=new, collection=self.group.collection, document=document, others=others)


def damages(groups: Sequence[Group], *, all_groups: bool) -> Iterator[Damage]:
    """
    Every wrong type for every field, as deep as objects go; an id cannot be changed.

    In every group that has the field, or in one of them by turns.
    """
    having: dict[tuple[str, str, str], list[Damage]] = {}
    for group in groups:
        for field, value in _fields_of(group.document):
            for name, wrong in VALUES.items():
                if type(wrong) is not type(value):
                    damage = Damage(group=group, field=field, value_name=name)
                    having.setdefault((group.collection, field, name), []).append(damage)
    for turn, found in enumerate(having.values()):
        yield from found if all_groups else [found[turn % len(found)]]


def _fields_of(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted names and the values of all fields but the id, objects before what is in them."""
    for name, value in document.items():
        if name == "_id":
            continue
        yield f"{prefix}{name}", value
        if isinstance(value, dict) and value:
            yield from _fields_of(value, f"{prefix}{name}.")
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _fields_of(value[0], f"{prefix}{name}.0.")


def _renamed(document: Mapping[str, Any], old: str, new: str) -> Document:
    """A copy with another name, wherever it stands in a text at the top."""
    return {
        name: value.replace(old, new) if isinstance(value, str) else deepcopy(value)
        for name, value in document.items()
    }
