"""
Reads every document of a database as this version of agent_service does: `document_reader.py URI DATABASE…`.

It runs beside the version that it came with, the previous release too, so it imports nothing of the tests.
It prints as JSON, by database: `documents`, by collection and id what was read; `unknown`, the collections of
which nobody has said here how they are read; and once `complaints`, what the log says about documents.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from loguru import logger

from agent_service.store import chunks, counters, keys, workers
from agent_service.store.documents import context_of, request_of
from agent_service.store.driver import Document, close_client, durable, open_client


def _quota_of(document: Document) -> dict[str, Any]:
    """Quotas are read by a pipeline in the server; these are the fields that it takes."""
    return {name: document[name] for name in ("left", "at", "places")}


def _service_reader() -> Callable[[Document], Any]:
    """Older versions have it elsewhere."""
    try:
        from agent_service.store.service_documents import state_of
    except ImportError:
        from agent_service.store import services

        reader: Callable[[Document], Any] = vars(services)["_state_of"]
        return reader
    return state_of


def _notification_readers() -> Mapping[str, Callable[[Document], Any]]:
    """Older versions have no notifications."""
    try:
        from agent_service.store.notifier import digest
    except ImportError:
        return {}

    def said(document: Document) -> list[Any]:
        return list(digest.notifications_of(document) or ())

    return {"notifications_work": said, "notifications_events": said}


#: How the documents of each collection are read. A new collection needs its line.
READERS: Mapping[str, Callable[[Document], Any]] = {
    "contexts": context_of,
    "counters": counters._counts_of,
    "events": chunks._chunk_of,
    "keys": keys._key_of,
    "quotas": _quota_of,
    "requests": request_of,
    "services": _service_reader(),
    "workers": workers._sign_of,
    **_notification_readers(),
}


def plain(value: Any) -> Any:
    """A value of the domain as JSON has it, with the names of its fields."""
    # Texts that are enumerations, and tuples with names, are more than what they are made of.
    if isinstance(value, Enum):
        return plain(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value


async def read_database(database: Any) -> dict[str, Any]:
    """Every document of every collection."""
    names = sorted(await database.list_collection_names())
    documents: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in READERS:
            found = await durable(database, name).find({}).to_list(None)
            documents[name] = {str(document["_id"]): plain(READERS[name](document)) for document in found}
    return {"documents": documents, "unknown": [name for name in names if name not in READERS]}


async def main(uri: str, *databases: str) -> None:
    """Read them all, and print."""
    complaints: list[str] = []
    logger.remove()
    # Some readers leave out what they cannot read, and only say so.
    logger.add(lambda line: complaints.append(str(line)), level="WARNING", format="{message}")
    client = open_client(uri, "pymongo")
    try:
        read = {name: await read_database(client[name]) for name in databases}
    finally:
        await close_client(client)
    print(json.dumps({**read, "complaints": complaints}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
