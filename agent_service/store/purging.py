"""Purging: finding and deleting all that is stored of an organization's requests, before its time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING

from agent_service.domain.request import RequestStatus
from agent_service.store.contexts import THERE_WITHIN, ids_of_callbacks, ids_of_request
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading, writing

#: What belongs to a request and bears its id in front of its own, in the order in which it is deleted.
BELONGING = ("events", "contexts")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedRequest:
    """
    A request, as far as deleting it needs.

    `over` says that it ended so long ago that nothing is inserted for it any more.
    """

    id: str
    user_id: str | None
    ended: bool
    over: bool


class PurgingCollection:
    """The collections `requests`, `contexts` and `events`, as far as what is in them is deleted."""

    def __init__(self, database: Database) -> None:
        self._requests = durable(database, "requests")
        self._committed = durable(database, "requests", read="majority")
        self._belonging = {name: durable(database, name) for name in BELONGING}

    async def requests_of(
        self, organization_id: str, until: str, *, now: datetime, after: str = "", limit: int = 100
    ) -> list[OwnedRequest]:
        """
        The requests of an organization with ids behind `after` and before `until`, in order, `limit` at most.

        How they stand is told for `now`.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._committed.find(
                {
                    "organization_id": organization_id,
                    # Each status in turn is in the order of the ids, and the server merges them.
                    "status": {"$in": sorted(status.value for status in RequestStatus)},
                    "_id": {"$gt": after, "$lt": until},
                },
                {"user_id": 1, "planned": 1, "finished_at": 1},
                sort=[("_id", ASCENDING)],
                limit=limit,
            ).hint("list")
            return [_owned_request(document, now - THERE_WITHIN) async for document in found]

    async def count_belonging(self, request_ids: Collection[str]) -> Mapping[str, int]:
        """How many contexts and events these requests have. Raises `StoreUnavailable`."""
        counts = dict.fromkeys(BELONGING, 0)
        if request_ids:
            for name, collection in self._belonging.items():
                with reading():
                    counts[name] = await collection.count_documents(_of_requests(request_ids))
        return counts

    async def delete(self, organization_id: str, request_ids: Collection[str]) -> Mapping[str, int]:
        """
        Delete these requests with all that belongs to them; says how much that was, by collection.

        A request goes last, so that whatever stops this leaves it to be found again. A worker that still held
        one of its contexts finds that its lease is lost. A planner that is still at work may insert contexts
        afterwards, so ask for nothing that is not `over`. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        counts = dict.fromkeys(("requests", *BELONGING), 0)
        if not request_ids:
            return counts
        for name, collection in self._belonging.items():
            with writing():
                counts[name] = (await collection.delete_many(_of_requests(request_ids))).deleted_count
        owned = {"_id": {"$in": list(request_ids)}, "organization_id": organization_id}
        with writing():
            counts["requests"] = (await self._requests.delete_many(owned)).deleted_count
        # Whoever wrote the end of one of them may have made its callback meanwhile; from here on nobody does.
        with writing():
            late = await self._belonging["contexts"].delete_many(_callbacks_of(request_ids))
        counts["contexts"] += late.deleted_count
        return counts


def _owned_request(document: Document, long_ago: datetime) -> OwnedRequest:
    finished_at = document.get("finished_at")
    long_over = finished_at <= long_ago if isinstance(finished_at, datetime) else finished_at is not None
    return OwnedRequest(
        id=document["_id"],
        user_id=document.get("user_id"),
        ended=finished_at is not None,
        # A planner of an older version says so once it has inserted the contexts, and not before.
        over=long_over and document.get("planned") is True,
    )


def _of_requests(request_ids: Collection[str]) -> Document:
    """The filter of what belongs to these requests, with their callbacks: a few ranges of ids."""
    ranges: list[Document] = [{"_id": ids_of_request(request_id)} for request_id in request_ids]
    return {"$or": [*ranges, *_callbacks_of(request_ids)["$or"]]}


def _callbacks_of(request_ids: Collection[str]) -> Document:
    return {"$or": [{"_id": ids_of_callbacks(request_id)} for request_id in request_ids]}
