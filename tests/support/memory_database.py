"""
A database of mongomock-motor that the store takes for one of PyMongo: for tests without a server.

It stands for a server where nobody can be notified. Tests of sessions, notifications, aggregation, indexes,
concerns and the server's time belong on a real MongoDB: here they are refused, ignored or answered plainly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import bson
import mongomock
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from mongomock_motor import AsyncMongoMockClient
from pymongo import AsyncMongoClient, IndexModel, UpdateMany
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.results import BulkWriteResult

from agent_service.store.driver import Document, Update
from agent_service.store.lookout import Need

# Nothing here is read from a secondary, so every session is consistent.
mongomock.ignore_feature("session")


class MemoryClient(AsyncMongoClient[Document]):
    """A client that never connects; its sessions are PyMongo's own."""

    def __init__(self) -> None:
        super().__init__("mongodb://memory.invalid")
        self.mock: Any = AsyncMongoMockClient()

    @property
    def admin(self) -> "MemoryDatabase":
        """What answers `hello`."""
        return MemoryDatabase(self, "admin")


class MemoryDatabase(AsyncDatabase[Document]):
    """A database in the memory of this process."""

    def __init__(self, client: MemoryClient | None = None, name: str = "agent_service") -> None:
        client = client or MemoryClient()
        super().__init__(client, name)
        self._mock: Any = client.mock[name]
        self._collections: dict[str, MemoryCollection] = {}

    def get_collection(self, name: str, *_: Any, **__: Any) -> Any:
        """A collection whose dates are aware; there are no concerns of reading and writing here."""
        if name not in self._collections:
            self._collections[name] = MemoryCollection(self._mock, name)
        return self._collections[name]

    def __getitem__(self, name: str) -> Any:
        return self.get_collection(name)

    def with_options(self, *_: Any, **__: Any) -> Any:
        """The same database."""
        return self

    async def command(self, command: Any, *_: Any, **__: Any) -> Any:
        """Answers `hello`, `insert` and `update`, and refuses the commands that notifications need."""
        if command == "hello":
            return {"me": "memory", "localTime": datetime.now(UTC)}
        if "insert" in command and command["insert"] in ("requests", "contexts"):
            documents = [_plain(each) for each in command["documents"]]
            await self[command["insert"]].insert_many(documents, ordered=command["ordered"])
            return {"ok": 1, "n": len(documents)}
        if "update" in command:
            collection = self[command["update"]]
            done = [await collection.update_one(each["q"], each["u"]) for each in command["updates"]]
            return {"ok": 1, "n": sum(each.matched_count for each in done)}
        raise OperationFailure(f"no such command: {next(iter(command))}", code=59)

    async def aggregate(self, *_: Any, **__: Any) -> Any:
        """Answers the lookout, which alone asks: every kind of need, and no other worker."""
        return MemoryCursor([{"now": datetime.now(UTC)}, *({"need": need.value} for need in Need)])


def _plain(document: Document | RawBSONDocument) -> Document:
    """The document, which may be encoded already."""
    if isinstance(document, RawBSONDocument):
        return bson.decode(document.raw, CodecOptions(tz_aware=True))
    return document


@dataclass(frozen=True, slots=True)
class MemoryCursor:
    """What an aggregation found."""

    documents: list[Document]

    async def to_list(self, _: int | None) -> list[Document]:
        """All of it."""
        return self.documents


class MemoryCollection:
    """A collection of mongomock-motor, with what that one lacks."""

    def __init__(self, database: Any, name: str) -> None:
        self._mock: Any = database.get_collection(name, codec_options=CodecOptions(tz_aware=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mock, name)

    async def bulk_write(self, updates: Sequence[Update], **_: Any) -> BulkWriteResult:
        """Apply each update by itself: mongomock 4.3 refuses those of PyMongo 4.20."""
        matched = 0
        for update in updates:
            many = isinstance(update, UpdateMany)
            apply = self._mock.update_many if many else self._mock.update_one
            done = await apply(update._filter, update._doc, upsert=bool(update._upsert))
            matched += done.matched_count
        return BulkWriteResult({"nMatched": matched}, acknowledged=True)

    async def create_indexes(self, models: Sequence[IndexModel]) -> None:
        """
        Keep to those that are unique.

        mongomock ignores that an index is partial: here it is sparse, on its last key only.
        """
        for index in (model.document for model in models):
            if index.get("unique"):
                *_, last = index["key"]
                await self._mock.create_index([(last, 1)], name=index["name"], unique=True, sparse=True)
