"""OddDocuments: looks through collections for documents that this version cannot decode, for `doctor`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import NoneType

from bson.dbref import DBRef
from bson.int64 import Int64
from pymongo.errors import ExecutionTimeout, NetworkTimeout

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import UndecodableDocument
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading
from agent_service.store.shapes import (
    ARRAY,
    FIRST_TIME,
    INTEGER,
    LARGEST_COUNT,
    LAST_TIME,
    NOTHING,
    Field,
    Shape,
)
from agent_service.store.stored_fields import CHUNK, CONTEXT, REQUEST, WORKER

#: How long one collection is looked through; there is no index for what should not be there.
LOOK_LIMIT = timedelta(seconds=10)
_MOST = 5
_BSON: Mapping[type, tuple[str, ...]] = {
    str: ("string",),
    int: ("int", "long"),
    Int64: ("long",),
    float: ("double",),
    bool: ("bool",),
    datetime: ("date",),
    dict: ("object",),
    DBRef: ("object",),
    list: ("array",),
    NoneType: ("null",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OddDocument:
    """One that cannot be decoded: where it is, and what is wrong with it."""

    collection: str
    id: str
    problem: str


class OddDocuments:
    """The collections that loops read, as far as they hold what no loop can read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self) -> Mapping[str, list[OddDocument] | None]:
        """
        The first few odd documents of each collection; None where looking through it took too long.

        Raises `StoreUnavailable`.
        """
        return {name: await self._find_in(name) for name in _SHAPES}

    async def _find_in(self, name: str) -> list[OddDocument] | None:
        milliseconds = LOOK_LIMIT // timedelta(milliseconds=1)
        with reading(LOOK_LIMIT * 2):
            found = durable(self._database, name).find(
                odd_filter(name),
                {"input": 0, "output": 0, "metadata": 0, "usage": 0, "variables": 0},
                limit=_MOST,
                max_time_ms=milliseconds,
            )
            try:
                documents = await found.to_list(None)
            except (ExecutionTimeout, NetworkTimeout):
                return None
        return [
            OddDocument(collection=name, id=str(document["_id"]), problem=_problem(document, _SHAPES[name]))
            for document in documents
        ]


def odd_filter(collection: str) -> Document:
    """What of one of the collections cannot be decoded, as far as the server can tell."""
    shape = _SHAPES[collection]
    beyond = {"$not": {"$gte": FIRST_TIME, "$lte": LAST_TIME}, "$type": "date"}
    dates = [{path: beyond} for path in _dates_in(shape)]
    nobodys = [_RUNS_FOR_NOBODY] if shape is CONTEXT else []
    return {"$or": [{"$nor": [{"$jsonSchema": _schema(shape)}]}, *dates, *nobodys]}


def _dates_in(shape: Shape, within: str = "") -> Iterator[str]:
    """The paths of all dates; to the server's schema each date is as good as another."""
    for name, field in shape.fields.items():
        if datetime in field.kinds:
            yield f"{within}{name}"
        if field.inside is not None:
            yield from _dates_in(field.inside, f"{within}{name}.")


def _schema(shape: Shape) -> Document:
    """The JSON schema of a shape."""
    required = [name for name, field in shape.fields.items() if not NOTHING & field.kinds]
    properties = {name: _property(field) for name, field in shape.fields.items()}
    # An empty list is refused.
    return {"properties": properties} | ({"required": required} if required else {})


def _property(field: Field) -> Document:
    types = {name for kind in field.kinds for name in _BSON[kind]}
    if field.added_to:
        types.discard("null")
    allowed: Document = {"bsonType": sorted(types)}
    if field.values:
        allowed["enum"] = sorted(field.values)
    if field.added_to and INTEGER & field.kinds:
        allowed |= {"minimum": 0, "maximum": LARGEST_COUNT}
    if field.filled:
        allowed["minItems"] = 1
    if field.of_texts:
        allowed["items"] = {"bsonType": "string"}
    if field.inside is not None:
        inside = _schema(field.inside)
        if ARRAY & field.kinds:
            allowed["items"] = {"bsonType": "object", **inside}
        else:
            allowed |= inside
    return allowed


def _problem(document: Document, shape: Shape) -> str:
    try:
        shape.check(document)
    except UndecodableDocument as error:
        return str(error)
    return "it runs, and no worker has a lease of it"


#: No loop finds one of these, until the deadline of its request.
_RUNS_FOR_NOBODY: Document = {"status": ContextStatus.RUNNING.value, "lease": None}
_SHAPES: Mapping[str, Shape] = {"contexts": CONTEXT, "requests": REQUEST, "workers": WORKER, "events": CHUNK}
