"""Databases: making one as good as new between two tests, which costs far less than a new one."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.collections import COLLECTION_NAMES
from agent_service.store.indexes import INDEXES

#: What a collection may have been created with; anything else, a validator for instance, was a test's idea.
_USUAL_OPTIONS = frozenset({"capped", "size", "max"})
_WANTED = {(index.collection, index.name): index for index in INDEXES}


async def empty_database(database: AsyncDatabase[dict[str, Any]]) -> bool:
    """
    Remove all documents, and whatever else a freshly prepared database would not have.

    The collections of agent_service stay with their indexes; other collections, and indexes that are not in
    `INDEXES` or differ from it, are dropped. Returns whether the database is as `Store.prepare` leaves one;
    where it is not, that creates what is missing, as in a new database. Nobody may be writing to it.
    """
    entries = [entry async for entry in await database.list_collections()]
    usual = [entry["name"] for entry in entries if _is_usual(entry)]
    # Views are listed by themselves, and their own collection goes with the last of them.
    unusual = {entry["name"] for entry in entries if not entry["name"].startswith("system.")} - set(usual)
    for name in unusual:
        await database.drop_collection(name)
    await asyncio.gather(*(database[name].delete_many({}) for name in await _not_empty(database, usual)))
    kept = await asyncio.gather(*(_keep_wanted_indexes(database, name) for name in usual))
    return sum(kept) == len(_WANTED)


def _is_usual(entry: Mapping[str, Any]) -> bool:
    options = entry.get("options", {}).keys()
    return (
        entry["name"] in COLLECTION_NAMES and entry["type"] == "collection" and not options - _USUAL_OPTIONS
    )


async def _not_empty(database: AsyncDatabase[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Which of these collections have documents: one command for all costs less than one for each."""
    parts: dict[str, list[dict[str, Any]]] = {
        name: [{"$limit": 1}, {"$replaceWith": {"name": {"$literal": name}}}] for name in names
    }
    if not parts:
        return []
    first, *others = parts
    unions: list[dict[str, Any]] = [
        {"$unionWith": {"coll": name, "pipeline": parts[name]}} for name in others
    ]
    found = await database[first].aggregate([*parts[first], *unions])
    return [document["name"] async for document in found]


async def _keep_wanted_indexes(database: AsyncDatabase[dict[str, Any]], name: str) -> int:
    """Drop those that are not in `INDEXES`, or differ from it; returns how many stay beside that of `_id`."""
    collection = database[name]
    kept = 0
    for index, information in (await collection.index_information()).items():
        wanted = _WANTED.get((name, index))
        if wanted is not None and wanted.matches(information):
            kept += 1
        elif index != "_id_":
            await collection.drop_index(index)
    return kept


@asynccontextmanager
async def emptied_store(uri: str, *, database: str) -> AsyncIterator[Store]:
    """A store on a database that has its indexes and nothing else, closed after the block."""
    async with Store.connect(uri, database=database) as store:
        await empty_database(store._database)
        await store.prepare()
        yield store
