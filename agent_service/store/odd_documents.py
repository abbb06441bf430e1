"""OddDocuments: looks through collections for documents that this version cannot decode, for `doctor`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import NoneType
from typing import Any

from bson.dbref import DBRef
from bson.int64 import Int64
from pymongo.errors import ExecutionTimeout, NetworkTimeout

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.request import RequestStatus
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading
from agent_service.store.shapes import (
    CHUNK,
    CONTEXT,
    REQUEST,
    WORKER,
    Field,
    check_chunk,
    check_context,
    check_request,
    check_worker,
)

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
        return {name: await self._find_in(name) for name in _LOOKED_AT}

    async def _find_in(self, name: str) -> list[OddDocument] | None:
        schema, check = _LOOKED_AT[name]
        milliseconds = LOOK_LIMIT // timedelta(milliseconds=1)
        with reading(LOOK_LIMIT * 2):
            found = durable(self._database, name).find(
                {"$nor": [{"$jsonSchema": schema}]},
                {"input": 0, "output": 0, "metadata": 0, "usage": 0, "variables": 0},
                limit=_MOST,
                max_time_ms=milliseconds,
            )
            try:
                documents = await found.to_list(None)
            except (ExecutionTimeout, NetworkTimeout):
                return None
        return [
            OddDocument(collection=name, id=str(document["_id"]), problem=_problem(document, check))
            for document in documents
        ]


def _problem(document: Document, check: Callable[[Document], None]) -> str:
    try:
        check(document)
    except UndecodableDocument as error:
        return str(error)
    return "it has a field of an odd type"


def _schema(fields: Mapping[str, Field], statuses: list[str] | None = None) -> Document:
    """The JSON schema of what can be decoded, as far as the server can tell."""
    properties: dict[str, Any] = {name: {"bsonType": _types(field)} for name, field in fields.items()}
    if statuses is not None:
        properties["status"] = {"enum": statuses}
    if "waiting_on" in properties:
        properties["waiting_on"]["items"] = {"bsonType": "string"}
        properties["lease"]["properties"] = {
            "token": {"bsonType": "string"},
            "expires_at": {"bsonType": "date"},
        }
        properties["lease"]["required"] = ["token", "expires_at"]
    required = [name for name, field in fields.items() if NoneType not in field.kinds]
    return {"bsonType": "object", "required": required, "properties": properties}


def _types(field: Field) -> list[str]:
    return sorted({name for kind in field.kinds for name in _BSON[kind]})


_LOOKED_AT: Mapping[str, tuple[Document, Callable[[Document], None]]] = {
    "contexts": (_schema(CONTEXT, [status.value for status in ContextStatus]), check_context),
    "requests": (_schema(REQUEST, [status.value for status in RequestStatus]), check_request),
    "workers": (_schema(WORKER), check_worker),
    "events": (_schema(CHUNK), check_chunk),
}
