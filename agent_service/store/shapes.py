"""
Shapes: of which types the fields of a stored document are.

A document may have been written by hand or by another version. Whoever decodes one checks its shape first, so
that what is wrong is found there, by name, and not in the middle of a loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import Any

from bson.dbref import DBRef
from bson.int64 import Int64

from agent_service.domain.errors import UndecodableDocument
from agent_service.store.driver import Document

TEXT = frozenset({str})
DATE = frozenset({datetime})
FLAG = frozenset({bool})
INTEGER = frozenset({int, Int64})
NUMBER = INTEGER | {float}
# BSON takes an object with `$ref` and `$id` for a reference.
OBJECT = frozenset({dict, DBRef})
ARRAY = frozenset({list})
#: Null or missing.
NOTHING = frozenset({NoneType})
#: What a JSON value is made of, besides texts, objects and arrays.
PLAIN = NUMBER | FLAG | NOTHING
#: The first and the last time that Python knows, as exactly as MongoDB stores it; BSON has dates beyond.
FIRST_TIME = datetime.min.replace(tzinfo=UTC)
LAST_TIME = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
#: A stored count above this, or below zero, was not counted: one more would not fit.
LARGEST_COUNT = 2**53

#: BSON types that Python knows by other names, for messages.
_NAMES = {
    "str": "string",
    "datetime": "date",
    "DatetimeMS": "date beyond the years 1 to 9999",
    "dict": "object",
    "DBRef": "object",
    "list": "array",
    "NoneType": "nothing",
}


@dataclass(frozen=True, slots=True)
class Field:
    """
    A stored field: of which exact Python types it may be, and what else must be true of it.

    Where null is not allowed, the field must be there.
    """

    kinds: frozenset[type]
    #: What stands for what cannot be decoded, from the document's id and the present time; it need not be
    #: true, only decodable.
    instead: Callable[[str, datetime], Any] = lambda _id, _at: None
    #: Which texts it may be, where not any.
    values: frozenset[str] = frozenset()
    #: What is in an object, or in each object of an array.
    inside: "Shape | None" = None
    #: Whether all that is in an array is text.
    of_texts: bool = False
    #: Whether an array has at least one item.
    filled: bool = False
    #: Whether updates add to it, which they cannot do to null: it is there or it is missing.
    added_to: bool = False

    @property
    def is_more(self) -> bool:
        """Whether its type is not all there is to check."""
        return bool(self.values or self.inside or self.of_texts or self.filled or self.added_to)


class Shape:
    """The fields of one kind of document, or of an object inside of one."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = fields
        # Made once: a claimed context is checked in a few microseconds.
        self._kinds = tuple((name, field.kinds) for name, field in fields.items())
        self._more = tuple((name, field) for name, field in fields.items() if field.is_more)

    def check(self, document: Document, within: str = "") -> None:
        """Raise `UndecodableDocument` if a field is not what it must be."""
        get = document.get
        for name, allowed in self._kinds:
            if type(get(name)) not in allowed:
                raise UndecodableDocument(f"{within}{name}", name_of(get(name)), _names_of(allowed))
        for name, field in self._more:
            value = get(name)
            if value is not None:
                _check_more(value, field, f"{within}{name}")
            elif field.added_to and name in document:
                raise UndecodableDocument(f"{within}{name}", "null", _names_of(field.kinds - NOTHING))

    def stand_ins(self, document: Document, document_id: str, at: datetime) -> Document:
        """What stands for each of its odd fields, by name: with these in their places it can be decoded."""
        changes: Document = {}
        # Each round finds another field.
        for _ in self.fields:
            try:
                self.check({**document, **changes})
            except UndecodableDocument as odd:
                name = odd.field.partition(".")[0]
                changes[name] = self.fields[name].instead(document_id, at)
            else:
                break
        return changes


def _check_more(value: Any, field: Field, path: str) -> None:
    """Check what the type of a value does not tell."""
    if field.added_to and type(value) in INTEGER and not 0 <= value <= LARGEST_COUNT:
        raise UndecodableDocument(path, "a number that nobody counted", "a count")
    if field.values and value not in field.values:
        raise UndecodableDocument(path, "another text", f"one of {', '.join(sorted(field.values))}")
    if field.filled and not value:
        raise UndecodableDocument(path, "an empty array", "an array of one or more")
    if field.of_texts:
        for item in value:
            if type(item) is not str:
                raise UndecodableDocument(path, f"an array with {name_of(item)}", "an array of strings")
    if field.inside is not None:
        for item in value if type(value) is list else (value,):
            if type(item) is not dict:
                raise UndecodableDocument(path, name_of(item), "an object")
            field.inside.check(item, f"{path}.")


def name_of(value: object) -> str:
    """What type a value is of, in the words of BSON; never the value, which may be a secret."""
    name = type(value).__name__
    return _NAMES.get(name, name.lower())


def _names_of(kinds: frozenset[type]) -> str:
    return " or ".join(sorted({_NAMES.get(kind.__name__, kind.__name__.lower()) for kind in kinds}))
