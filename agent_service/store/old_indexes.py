"""
Old indexes: what older versions made and this one does not need; it stays until an operator has it dropped.

No process does that by itself: an API process of an older version is in no list of processes, and it is not
ready where an index of its own is missing.
"""

from loguru import logger

from agent_service.store.driver import Database
from agent_service.store.indexes import Index, with_present
from agent_service.store.operations import writing

#: What older versions made and this one does not need. Workers of those before `lines` would claim ever more
#: slowly without `claim`; the others are replaced by such as serve older versions too.
OLD_INDEXES = (
    Index(
        collection="contexts",
        name="claim",
        keys=("service", "queue", "priority", "rank", "_id"),
        partial={"status": "pending"},
        serves="claims of versions that know no lines",
    ),
    Index(
        collection="contexts",
        name="lease",
        keys=("lease.expires_at", "_id"),
        partial={"status": "running"},
        serves="what `running` serves",
    ),
    Index(
        collection="contexts",
        name="standing",
        keys=("schema", "service", "queue", "status", "finished_at", "run_at"),
        serves="statistics of older versions",
    ),
    *(
        Index(
            collection=collection,
            name="expiry",
            keys=("expires_at",),
            expires=True,
            serves="what `expires` serves",
        )
        for collection in ("contexts", "requests", "events")
    ),
)


async def old_indexes(database: Database) -> tuple[Index, ...]:
    """Which of the `OLD_INDEXES` are there still. Raises `StoreUnavailable`."""
    return tuple(
        [index async for index, present in with_present(database, OLD_INDEXES) if index.matches(present)]
    )


async def tell_of_old_indexes(database: Database) -> None:
    """Have the log say which of them are there still, and what to do. Raises `StoreUnavailable`."""
    if names := ", ".join(f"{index.name} of {index.collection}" for index in await old_indexes(database)):
        logger.info(
            "there are indexes that only older versions need ({}); once no process of one runs any more,"
            " `agent-service doctor --drop-old-indexes` makes every write cheaper",
            names,
        )


async def drop_old_indexes(database: Database) -> None:
    """Drop the `OLD_INDEXES` that are there. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
    for index in await old_indexes(database):
        with writing():
            await database[index.collection].drop_index(index.name)
