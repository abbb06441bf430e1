"""Odd documents: those with fields of wrong types, counted and named for the checks of an operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent_service.store.driver import Database, Document, close_client, durable, open_client
from agent_service.store.operations import reading
from agent_service.store.shapes import DATE, Shape
from agent_service.store.stored_shapes import SHAPES

#: Nobody needs to know more exactly how many there are; so many of them are named.
MOST_ODD, _MOST_NAMED = 1_000, 5
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class OddDocuments:
    """
    The documents of one collection that cannot be decoded: how many, `MOST_ODD` at most, and the first few.

    Each of `named` is an id and what is wrong there, never what is stored.
    """

    collection: str
    count: int
    named: tuple[tuple[str, str], ...]


async def find_odd_documents(uri: str, *, database: str, driver: str = "pymongo") -> list[OddDocuments]:
    """
    What there is in each collection whose fields are checked, odd or not; each is read as a whole.

    Raises `StoreError`, also where a collection is too large to be read in time.
    """
    client = open_client(uri, driver)
    try:
        return [await _find(client[database], shape) for shape in SHAPES.values()]
    finally:
        await close_client(client)


async def _find(database: Database, shape: Shape) -> OddDocuments:
    collection = durable(database, shape.name)
    odd = odd_filter(shape)
    with reading():
        count = await collection.count_documents(odd, limit=MOST_ODD)
    first: Sequence[Document] = []
    if count:
        with reading():
            first = await collection.find(odd, limit=_MOST_NAMED).to_list(None)
    return OddDocuments(
        collection=shape.name, count=count, named=tuple(_named(shape, document) for document in first)
    )


def odd_filter(shape: Shape) -> Document:
    """The filter of what does not have this shape, dates included that no program here can hold."""
    dates: list[Document] = [
        {name: {"$type": "date", "$not": {"$gte": _FIRST, "$lte": _LAST}}}
        for name, field in shape.fields.items()
        if field.kind is DATE
    ]
    return {"$or": [{"$nor": [{"$jsonSchema": shape.schema()}]}, *dates]}


def _named(shape: Shape, document: Document) -> tuple[str, str]:
    stored_id: Any = document["_id"]
    problems = [str(problem) for problem in shape.problems(document)]
    return str(stored_id), problems[0] if problems else "a field has a wrong type"
