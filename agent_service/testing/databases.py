"""Databases: making one as good as new between two tests, which costs far less than a new one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.collections import COLLECTION_NAMES
from agent_service.store.indexes import INDEXES

#: What a collection may have been created with; anything else, a validator for instance, was a test's idea.
_USUAL_OPTIONS = frozenset({"capped", "size", "max"})
_WANTED = {(index.collection, index.name): index for index in INDEXES}


async def empty_database(database: AsyncDatabase[dict[str, Any]]) -> None:
    """
    Remove all documents, and whatever else a freshly prepared database would not have.

    The collections of agent_service stay with their indexes; other collections, and indexes that are not in
    `INDEXES` or differ from it, are dropped. What is missing then, `Store.prepare` creates, as it does in a
    new database. Nobody may be writing to it.
    """
    entries = [entry async for entry in await database.list_collections()]
    await asyncio.gather(*(_empty(database, entry) for entry in entries))


async def _empty(database: AsyncDatabase[dict[str, Any]], entry: Mapping[str, Any]) -> None:
    name = entry["name"]
    if name.startswith("system."):
        # Views are listed by themselves, and this one goes with the last of them.
        return
    is_usual = entry["type"] == "collection" and not entry.get("options", {}).keys() - _USUAL_OPTIONS
    if name not in COLLECTION_NAMES or not is_usual:
        await database.drop_collection(name)
        return
    collection = database[name]
    await collection.delete_many({})
    for index, information in (await collection.index_information()).items():
        wanted = _WANTED.get((name, index))
        if index != "_id_" and (wanted is None or not wanted.matches(information)):
            await collection.drop_index(index)


@asynccontextmanager
async def emptied_store(uri: str, *, database: str) -> AsyncIterator[Store]:
    """A store on a database that has its indexes and nothing else, closed after the block."""
    async with Store.connect(uri, database=database) as store:
        await empty_database(store._database)
        await store.prepare()
        yield store
