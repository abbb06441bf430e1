"""Indexes: every index there is, each with the query that it serves; created idempotently."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from agent_service.domain.errors import StoreError
from agent_service.store.driver import Database, Document
from agent_service.store.operations import reading, writing

#: A new index on a large collection takes its time, and a limit that is too short would never let it end.
_BUILD_LIMIT = timedelta(minutes=30)
#: Who has no date yet costs no key, neither when it is inserted nor when it gets one.
_DATED: Document = {"expires_at": {"$type": "date"}}
#: The statuses that the index `others` has: all but those that each context goes through.
OTHERS = ("scheduled", "blocked", "completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """
    One index of one collection.

    `serves` says in words which query it is for; `partial` is the filter of a partial index, which that
    query repeats; `expires` makes it a TTL index that removes a document at the date in its only key.
    """

    collection: str
    name: str
    keys: tuple[str, ...]
    serves: str
    unique: bool = False
    partial: Document | None = None
    expires: bool = False

    def model(self) -> IndexModel:
        """What the driver creates."""
        options: dict[str, Any] = {"name": self.name}
        if self.unique:
            options["unique"] = True
        if self.partial is not None:
            options["partialFilterExpression"] = self.partial
        if self.expires:
            options["expireAfterSeconds"] = 0
        return IndexModel([(key, ASCENDING) for key in self.keys], **options)

    def matches(self, present: Mapping[str, Any] | None) -> bool:
        """Whether this is what the driver's `index_information` tells of the index of the same name."""
        if present is None:
            return False
        return (
            tuple(key for key, _ in present["key"]) == self.keys
            and bool(present.get("unique")) == self.unique
            and present.get("partialFilterExpression") == self.partial
            and ("expireAfterSeconds" in present) == self.expires
        )


INDEXES = (
    Index(
        collection="contexts",
        name="lines",
        # With the status among its keys the server goes from one organization to the next without looking at
        # what lies between.
        keys=("status", "service", "queue", "priority", "organization_id", "rank", "_id", "run_at"),
        partial={"status": "pending"},
        serves="claims: what waits in each line, and the heads of lines; the depth of a queue, and since when"
        " its contexts wait",
    ),
    Index(
        collection="contexts",
        name="due",
        keys=("run_at", "_id"),
        partial={"status": "scheduled"},
        serves="the scheduler: what is due, and when the next one is",
    ),
    Index(
        collection="contexts",
        name="running",
        # What follows the id is there to be counted without looking at a document.
        keys=("lease.expires_at", "_id", "status", "service", "queue"),
        partial={"status": "running"},
        serves="the rescuer: whose lease has ended; looking up a claim whose answer was lost; statistics: how"
        " many contexts of each queue run",
    ),
    Index(
        collection="contexts",
        name="unsettled",
        keys=("finished_at", "_id"),
        partial={"settled": False},
        serves="the rescuer: ended contexts whose consequences are not all written",
    ),
    Index(
        collection="contexts",
        name="others",
        # What is claimed and completed gets one key in its life: that of its end.
        keys=("service", "queue", "status", "finished_at"),
        partial={"status": {"$in": list(OTHERS)}},
        serves="statistics: how many contexts of a queue are scheduled or blocked, and what ended lately; the"
        " callbacks that failed",
    ),
    Index(
        collection="contexts",
        name="expires",
        keys=("expires_at",),
        partial=_DATED,
        expires=True,
        serves="removal after retention",
    ),
    Index(
        collection="requests",
        name="idempotency",
        keys=("organization_id", "idempotency_key"),
        unique=True,
        partial={"idempotency_key": {"$exists": True}},
        serves="idempotent submission: one request for each key of an organization",
    ),
    Index(
        collection="requests",
        name="unplanned",
        keys=("created_at", "_id"),
        partial={"planned": False},
        serves="the rescuer: requests whose contexts are not all inserted",
    ),
    Index(
        collection="requests",
        name="cancelling",
        keys=("created_at", "_id"),
        partial={"cancel_requested": True, "finished_at": None},
        serves="the rescuer: requests that shall be cancelled and have not ended",
    ),
    Index(
        collection="requests",
        name="deadline",
        keys=("deadline_at", "_id"),
        partial={"finished_at": None},
        serves="the rescuer: requests whose deadline has passed",
    ),
    Index(
        collection="requests",
        name="failed",
        keys=("finished_at", "_id"),
        partial={"status": "failed"},
        serves="redriving: failed requests in the order of their ends",
    ),
    Index(
        collection="requests",
        name="list",
        keys=("organization_id", "status", "_id"),
        serves="lists: the newest requests of an organization, of some statuses or of all, merged",
    ),
    Index(
        collection="requests",
        name="correlation",
        keys=("organization_id", "correlation_id", "_id"),
        # Who names no correlation id pays nothing for it.
        partial={"correlation_id": {"$gt": ""}},
        serves="lists: the newest requests with a correlation id",
    ),
    Index(
        collection="requests",
        name="expires",
        keys=("expires_at",),
        partial=_DATED,
        expires=True,
        serves="removal after retention",
    ),
    Index(
        collection="events",
        name="expires",
        keys=("expires_at",),
        partial=_DATED,
        expires=True,
        serves="removal after retention",
    ),
    Index(
        collection="workers",
        name="expiry",
        keys=("expires_at",),
        expires=True,
        serves="forgetting workers that fell silent long ago; which have been seen lately",
    ),
    Index(
        collection="keys",
        name="organization",
        keys=("organization_id", "_id"),
        serves="listing API keys, all or those of one organization",
    ),
)

#: Made only where the open requests of an organization are limited, and of no cost elsewhere.
OPEN_REQUESTS = Index(
    collection="requests",
    name="open",
    keys=("organization_id", "status"),
    partial={"status": {"$in": ["accepted", "running"]}},
    serves="counting the open requests of an organization",
)


async def create_index(database: Database, index: Index) -> None:
    """Create one index, if it is not there. Raises what `create_indexes` does."""
    with writing(_BUILD_LIMIT):
        await database[index.collection].create_indexes([index.model()])


async def create_indexes(database: Database) -> None:
    """
    Create what is missing; what is there stays. Safe from many processes at once.

    Raises `StoreUnavailable` or `WriteOutcomeUnknown`, and `StoreError` where something there is in the way:
    an index of the same name with other keys, or documents that a unique index forbids.
    """
    for collection in dict.fromkeys(index.collection for index in INDEXES):
        models = [index.model() for index in INDEXES if index.collection == collection]
        try:
            with writing(_BUILD_LIMIT):
                await database[collection].create_indexes(models)
        except DuplicateKeyError as error:
            raise StoreError(f"two documents of {collection} have the same unique key: {error}") from error


async def missing_indexes(database: Database) -> tuple[Index, ...]:
    """
    Which indexes are not there, or are there with other keys or another filter.

    Raises `StoreUnavailable`.
    """
    return tuple(
        [index async for index, present in with_present(database, INDEXES) if not index.matches(present)]
    )


async def with_present(
    database: Database, indexes: Sequence[Index]
) -> AsyncIterator[tuple[Index, Mapping[str, Any] | None]]:
    """Each of these indexes, and what there is of its name. Raises `StoreUnavailable`."""
    for collection in dict.fromkeys(index.collection for index in indexes):
        with reading():
            present = await database[collection].index_information()
        for index in indexes:
            if index.collection == collection:
                yield index, present.get(index.name)
