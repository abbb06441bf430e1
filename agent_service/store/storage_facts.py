"""How much is stored, and what of it should be gone already, for the checks of an operator."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent_service.store.driver import Database, Document, close_client, durable, open_client
from agent_service.store.operations import reading

#: The collections that grow with what is submitted.
GROWING = ("requests", "contexts", "events")
#: The server removes what has expired once a minute; what is late by more than this is not being removed.
LATE = timedelta(minutes=15)
#: Nobody needs to know more exactly how many are late.
MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFacts:
    """
    The size of one collection: its documents before compression, and all of its indexes on disk, in bytes.

    `late` is how many documents expired more than `LATE` ago and are still there, MOST_COUNTED at most.
    """

    collection: str
    documents: int
    data_bytes: int
    index_bytes: int
    late: int


async def read_storage_facts(
    uri: str, *, database: str, now: datetime, driver: str = "pymongo"
) -> list[StorageFacts]:
    """The facts of each collection that there is; `now` is the server's time. Raises `StoreError`."""
    client = open_client(uri, driver)
    try:
        with reading():
            present = await client[database].list_collection_names()
        return [await _read(client[database], name, now) for name in GROWING if name in present]
    finally:
        await close_client(client)


async def _read(database: Database, name: str, now: datetime) -> StorageFacts:
    collection = durable(database, name)
    with reading():
        # As a command, because the drivers differ in how they aggregate. Each shard answers for itself.
        pipeline = [{"$collStats": {"storageStats": {}}}, {"$replaceWith": "$storageStats"}]
        answer = await database.command({"aggregate": name, "pipeline": pipeline, "cursor": {}})
    shards: list[Document] = answer["cursor"]["firstBatch"]
    with reading():
        late = await collection.count_documents({"expires_at": {"$lt": now - LATE}}, limit=MOST_COUNTED)
    return StorageFacts(
        collection=name,
        documents=sum(int(shard.get("count", 0)) for shard in shards),
        data_bytes=sum(int(shard.get("size", 0)) for shard in shards),
        index_bytes=sum(int(shard.get("totalIndexSize", 0)) for shard in shards),
        late=late,
    )
