"""
Shapes: which BSON types each stored field may have.

There is one truth of it: decoding checks it, `doctor` asks the server by it, and what cannot be decoded ends
with neutral values by it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from agent_service.domain.errors import UndecodableDocument
from agent_service.store.driver import Document
from agent_service.store.stored_json import is_json

#: Counts are added to and written into ids; one that is larger was counted by nobody.
MOST_COUNTED = 2**31 - 1
#: So many combinations of types are remembered as right ones; there are a handful.
_MOST_KNOWN = 512
_MISSING = type(None)
_BSON_NAMES: Mapping[type, str] = {
    _MISSING: "null or missing",
    str: "string",
    bool: "bool",
    int: "int",
    Int64: "long",
    float: "double",
    datetime: "date",
    DatetimeMS: "date outside of the years 1 to 9999",
    dict: "object",
    DBRef: "object",
    list: "array",
    bytes: "binData",
    Binary: "binData",
    Code: "javascript",
    Decimal128: "decimal",
    MaxKey: "maxKey",
    MinKey: "minKey",
    ObjectId: "objectId",
    Regex: "regex",
    Timestamp: "timestamp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a value may be: its BSON types, the Python types that they are decoded to, what stands for it."""

    bson: tuple[str, ...]
    python: tuple[type, ...]
    #: What stands in the place of a value that cannot be decoded.
    neutral: Callable[[datetime], Any]

    def holds(self, value: Any) -> bool:
        """Whether a value is of this kind."""
        # A truth value is an int to Python.
        return isinstance(value, self.python) and (bool in self.python or not isinstance(value, bool))


TEXT = Kind(bson=("string",), python=(str,), neutral=lambda at: "")
DATE = Kind(bson=("date",), python=(datetime,), neutral=lambda at: at)
FLAG = Kind(bson=("bool",), python=(bool,), neutral=lambda at: False)
WHOLE = Kind(bson=("int", "long"), python=(int, Int64), neutral=lambda at: 0)
NUMBER = Kind(bson=("int", "long", "double"), python=(int, Int64, float), neutral=lambda at: 0)
COUNT = Kind(bson=("int", "long"), python=(int, Int64), neutral=lambda at: 0)
OBJECT = Kind(bson=("object",), python=(dict, DBRef), neutral=lambda at: {})
ARRAY = Kind(bson=("array",), python=(list,), neutral=lambda at: [])
JSON = Kind(
    bson=("string", "bool", "int", "long", "double", "object", "array"),
    python=(str, bool, int, Int64, float, dict, DBRef, list),
    neutral=lambda at: None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """
    One field: neither null nor missing is right unless it is `optional`, and null is not where that cannot be
    added to (`nullable`).

    Objects and the items of an array have the `shape`, or items are of the kind `items`; `entries` is the
    shape of everything in an object, whatever its name. `deep` is JSON all the way down. A field that is not
    `read` is stored for queries only.
    """

    kind: Kind
    optional: bool = False
    nullable: bool = True
    shape: "Shape | None" = None
    items: Kind | None = None
    entries: "Shape | None" = None
    values: frozenset[str] = frozenset()
    deep: bool = False
    read: bool = True

    def problems(self, path: str, value: Any) -> Iterator["Problem"]:
        """What is wrong with a value at a path, and below it."""
        if value is None:
            if not self.optional:
                yield Problem(path=path, found=_BSON_NAMES[_MISSING], right=self.right)
        elif not self.kind.holds(value) or (self.values and value not in self.values):
            yield Problem(path=path, found=_name_of(value), right=self.right)
        elif self.kind is COUNT and not 0 <= value <= MOST_COUNTED:
            yield Problem(path=path, found="number out of range", right=self.right)
        else:
            yield from self._problems_inside(path, value)

    def _problems_inside(self, path: str, value: Any) -> Iterator["Problem"]:
        """What is wrong below a value that has a right type itself."""
        if self.deep:
            if not is_json(value):
                yield Problem(path=path, found=f"{_name_of(value)} with something else in it", right="JSON")
        elif self.kind is ARRAY:
            inner = Field(kind=self.items or OBJECT, shape=self.shape)
            for number, item in enumerate(value):
                yield from inner.problems(f"{path}.{number}", item)
        elif self.shape is not None:
            yield from self.shape.problems(value, f"{path}.")
        elif self.entries is not None:
            inner = Field(kind=OBJECT, shape=self.entries)
            for name, entry in (value.as_doc() if isinstance(value, DBRef) else value).items():
                yield from inner.problems(f"{path}.{name}", entry)

    def fits(self, value: Any) -> bool:
        """Whether a value is what it should be."""
        return next(self.problems("", value), None) is None

    @property
    def right(self) -> str:
        """What the value should be, in words."""
        if self.values:
            return f"one of {', '.join(sorted(self.values))}"
        if self.kind is COUNT:
            return f"int or long from 0 to {MOST_COUNTED}"
        return " or ".join(self._types)

    @property
    def _types(self) -> list[str]:
        return [*self.kind.bson, *(["null"] if self.optional and self.nullable else [])]

    def schema(self) -> Document:
        """The same as a JSON Schema of MongoDB."""
        schema: Document = {"bsonType": self._types}
        if self.values:
            schema["enum"] = [*sorted(self.values), *([None] if self.optional else [])]
        if self.kind is COUNT:
            schema |= {"minimum": 0, "maximum": MOST_COUNTED}
        if self.kind is ARRAY and (self.shape or self.items):
            schema["items"] = Field(kind=self.items or OBJECT, shape=self.shape).schema()
        elif self.shape is not None:
            schema |= self.shape.schema()
        elif self.entries is not None:
            schema["additionalProperties"] = Field(kind=OBJECT, shape=self.entries).schema()
        return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A field that is not what it should be: where it is, and what was found; never its value."""

    path: str
    found: str
    right: str

    def __str__(self) -> str:
        return f"{self.path} is {self.found} and should be {self.right}"


class Shape:
    """The fields of one kind of document, or of an object inside of one."""

    def __init__(self, name: str, fields: Mapping[str, Field]) -> None:
        self.name = name
        self.fields = fields
        read = {field_name: field for field_name, field in fields.items() if field.read}
        self._names = tuple(field_name for field_name, field in read.items() if not field.deep)
        #: Combinations of the types of these fields that are known to be right.
        self._known: set[tuple[type, ...]] = set()
        self._counts = tuple(name for name, field in read.items() if field.kind is COUNT)
        self._never_null = tuple(
            name for name, field in read.items() if field.optional and not field.nullable
        )
        self._objects = tuple(
            (name, field.shape) for name, field in read.items() if field.shape and field.kind is OBJECT
        )
        #: What holds any number of others; these are texts where there is no shape.
        self._inner = tuple(
            (name, field.shape or field.entries)
            for name, field in read.items()
            if field.kind is ARRAY or field.entries
        )

    def fits(self, document: Mapping[str, Any]) -> bool:
        """
        Whether every field that is read has a right type, but for what is `deep`; `values` are not compared.

        It is asked for every claim, so a combination of types that was right before is looked up as a whole.
        """
        get = document.get
        types = tuple(map(type, map(get, self._names)))
        if types not in self._known and not self._learn(document, types):
            return False
        if self._never_null and any(get(name) is None and name in document for name in self._never_null):
            return False
        if self._counts and not all(0 <= (get(name) or 0) <= MOST_COUNTED for name in self._counts):
            return False
        for name, shape in self._objects:
            value = get(name)
            if value is not None and not (type(value) is dict and shape.fits(value)):
                return False
        for name, inner in self._inner:
            for item in _items_of(get(name)):
                if not ((type(item) is dict and inner.fits(item)) if inner else type(item) is str):
                    return False
        return True

    def _learn(self, document: Mapping[str, Any], types: tuple[type, ...]) -> bool:
        """Look at the fields one by one; what is right is remembered by its types."""
        right = all(
            (field.optional if value is None else field.kind.holds(value))
            for field, value in ((self.fields[name], document.get(name)) for name in self._names)
        )
        if right and len(self._known) < _MOST_KNOWN:
            self._known.add(types)
        return right

    def problems(self, document: Mapping[str, Any], prefix: str = "") -> Iterator[Problem]:
        """What is wrong with a document, field by field, what is not read included."""
        # An object with `$ref` and `$id` is decoded as a reference.
        document = document.as_doc() if isinstance(document, DBRef) else document
        for name in self.fields:
            yield from self._problems_in(document, name, prefix)

    def _problems_in(self, document: Mapping[str, Any], name: str, prefix: str = "") -> Iterator[Problem]:
        field, value = self.fields[name], document.get(name)
        if value is None and not field.nullable and name in document:
            yield Problem(path=f"{prefix}{name}", found="null", right=field.right)
        else:
            yield from field.problems(f"{prefix}{name}", value)

    def undecodable(self, document: Mapping[str, Any]) -> UndecodableDocument:
        """The error that says what is wrong with a document that does not fit."""
        found = [
            problem
            for name, field in self.fields.items()
            if field.read
            for problem in self._problems_in(document, name)
        ]
        what = (
            f"of {self.name} {document['_id']}" if isinstance(document.get("_id"), str) else f"of {self.name}"
        )
        first = str(found[0]) if found else "it changed while it was read"
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return UndecodableDocument(f"a stored document {what} cannot be decoded: {first}{more}")

    def wrong(self, document: Mapping[str, Any]) -> list[str]:
        """The names of those of its fields that are not what they should be; an id cannot be changed."""
        return [
            name
            for name, field in self.fields.items()
            if field.read and name != "_id" and any(True for _ in self._problems_in(document, name))
        ]

    def neutral(self, document: Mapping[str, Any], at: datetime) -> Document:
        """Values that stand for those of its fields that are `wrong`."""
        fields = {name: self.fields[name] for name in self.wrong(document)}
        return {
            name: None if field.optional and field.nullable else field.kind.neutral(at)
            for name, field in fields.items()
        }

    def schema(self) -> Document:
        """The same as a JSON Schema of MongoDB."""
        required = [name for name, field in self.fields.items() if not field.optional]
        properties = {name: field.schema() for name, field in self.fields.items()}
        return {"properties": properties} | ({"required": required} if required else {})


def _items_of(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value or ()


def _name_of(value: Any) -> str:
    kind = type(value)
    found = _BSON_NAMES.get(kind)
    return found or next(
        (name for known, name in _BSON_NAMES.items() if isinstance(value, known)), kind.__name__
    )
