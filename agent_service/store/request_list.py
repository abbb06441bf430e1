"""Request lists: the requests of one organization, newest first, with bounded work for each page."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from pymongo import DESCENDING

from agent_service.domain.listing import RequestFilter, metadata_values
from agent_service.domain.request import Request, request_ids_before
from agent_service.store.documents import request_of
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading
from agent_service.store.paging import decode_all

#: A page ends where it has so many bytes: metadata can be as large as a whole submission.
_MOST_BYTES = 4 * 1024 * 1024
#: What the server sends at once, so that little is read in vain when a page ends early.
_BATCH = 50
#: An id has the time of the process that made it, and `created_at` that of the server; clocks of one fleet
#: differ by less than this.
_CLOCKS_DIFFER = timedelta(minutes=1)
_FIRST_TIME, _LAST_TIME = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """
    What was found, without variables and the inputs of steps.

    `last` is the id of the last request that was looked at, and `more` says that others follow it.
    """

    requests: list[Request]
    last: str | None
    more: bool


class RequestListCollection:
    """Lists over the collections `requests` and `contexts`, as a majority of the members has them."""

    def __init__(self, database: Database) -> None:
        self._requests = durable(database, "requests", read="majority")
        self._contexts = durable(database, "contexts", read="majority")

    async def find_bound(
        self, organization_id: str, where: RequestFilter, *, before: str | None, looks: int
    ) -> str | None:
        """
        Where a page has to end so that not more than `looks` requests are looked at; None: nowhere.

        It reads an index and no document. Raises `StoreUnavailable`.
        """
        if _in_index(where) == set(_conditions(where)) and not where.depends_on_contexts:
            return None
        with reading(CALLER_LIMIT):
            found = self._requests.find(
                _walk(organization_id, where, before=before),
                {"_id": 1},
                sort=[("_id", DESCENDING)],
                skip=looks - 1,
                limit=1,
            ).hint(_index(where))
            ids: list[str] = [document["_id"] async for document in found]
            return ids[0] if ids else None

    async def read(
        self,
        organization_id: str,
        where: RequestFilter,
        *,
        before: str | None,
        down_to: str | None,
        limit: int,
    ) -> Listed:
        """
        The newest requests that match, from behind `before` down to `down_to`, both ids, or to the last one.

        Of the statuses, those that are stored. Raises `StoreUnavailable`.
        """
        walk = _walk(organization_id, where, before=before, down_to=down_to)
        documents: list[Document] = []
        size, more = 0, False
        with reading(CALLER_LIMIT):
            found = self._requests.find(
                {**walk, **_conditions(where)},
                {"variables": 0, "steps.input": 0},
                sort=[("_id", DESCENDING)],
                limit=limit + 1,
                batch_size=_BATCH,
            ).hint(_index(where))
            async for document in found:
                if len(documents) == limit or size >= _MOST_BYTES:
                    more = True
                    break
                documents.append(document)
                size += len(bson.encode(document))
        last = documents[-1]["_id"] if documents else None
        return Listed(requests=decode_all(documents, request_of), last=last, more=more)

    async def find_begun(self, context_ids: Collection[str]) -> frozenset[str]:
        """The ids of the requests of which one of these contexts was claimed. Raises `StoreUnavailable`."""
        if not context_ids:
            return frozenset()
        with reading(CALLER_LIMIT):
            found = self._contexts.find(
                {"_id": {"$in": list(context_ids)}, "attempt": {"$gt": 0}}, {"_id": 1}
            )
            return frozenset([document["_id"].partition(".")[0] async for document in found])


def _walk(
    organization_id: str, where: RequestFilter, *, before: str | None, down_to: str | None = None
) -> Document:
    """The requests that an index finds in their order, between two ids."""
    ids: Document = {}
    upper = [before] if before is not None else []
    lower = [down_to] if down_to is not None else []
    if where.created_before is not None:
        upper.append(request_ids_before(_within_ids(where.created_before) + _CLOCKS_DIFFER))
    if where.created_after is not None:
        lower.append(request_ids_before(_within_ids(where.created_after) - _CLOCKS_DIFFER))
    if upper:
        ids["$lt"] = min(upper)
    if lower:
        ids["$gte"] = max(lower)
    conditions = _conditions(where)
    return {
        "organization_id": organization_id,
        **{name: conditions[name] for name in _in_index(where)},
        **({"_id": ids} if ids else {}),
    }


def _within_ids(at: datetime) -> datetime:
    """The same time, as long as an id can hold it and its neighbourhood."""
    return min(max(at, _FIRST_TIME), _LAST_TIME)


def _index(where: RequestFilter) -> str:
    """The only index that bounds the work; the server might take that of the ids, which has everybody's."""
    return "list" if where.correlation_id is None else "correlation"


def _in_index(where: RequestFilter) -> set[str]:
    """The fields of the conditions that the index of a list decides."""
    return {"correlation_id"} if where.correlation_id is not None else {"status"}


def _conditions(where: RequestFilter) -> Mapping[str, Any]:
    """Every condition, by its field; what a caller chose is only ever a value, or a checked name."""
    conditions: dict[str, Any] = {
        # Each status in turn is in the order of the ids, and the server merges them.
        "status": {"$in": sorted(status.value for status in where.stored_statuses)},
    }
    if where.correlation_id is not None:
        conditions["correlation_id"] = {"$eq": where.correlation_id}
        if not where.statuses:
            del conditions["status"]
    if where.service is not None:
        conditions["steps.service"] = {"$eq": where.service}
    if where.user_id is not None:
        conditions["user_id"] = {"$eq": where.user_id}
    created = {
        operator: at
        for operator, at in (("$gt", where.created_after), ("$lt", where.created_before))
        if at is not None
    }
    if created:
        conditions["created_at"] = created
    for name, text in where.metadata.items():
        conditions[f"metadata.{name}"] = {"$in": list(metadata_values(text))}
    return conditions
