"""Quotas: what each organization has used of its limits, in the collection `quotas`, over all processes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from agent_service.domain.quota import Quota
from agent_service.domain.request import RequestStatus
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.indexes import OPEN_REQUESTS, create_index
from agent_service.store.operations import CALLER_LIMIT, reading, writing

#: A process that died keeps places for its submissions for so long; longer than any of them is on its way.
_RESERVED_FOR = timedelta(seconds=30)
_MINUTE_MS = 60_000
_OPEN = [status.value for status in RequestStatus if not status.ended]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What an organization was given: so many submissions, and when there will be another one."""

    granted: int
    #: How many requests others are storing just now.
    underway_elsewhere: int
    next_in: timedelta


_NUMBER = ("int", "long", "double")
#: A place that can be read and that somebody still has.
_ALIVE: Sequence[Document] = (
    {"$eq": [{"$type": "$$this.token"}, "string"]},
    {"$in": [{"$type": "$$this.count"}, list(_NUMBER)]},
    {"$eq": [{"$type": "$$this.until"}, "date"]},
    {"$gt": ["$$this.until", "$$NOW"]},
    # Nobody has one for longer; the clock of another primary may have been ahead.
    {"$lt": ["$$this.until", {"$add": ["$$NOW", 2 * int(_RESERVED_FOR.total_seconds() * 1000)]}]},
)


class QuotaCollection:
    """
    One document for each organization: a bucket of submissions, and places for those on their way.

    The server's time counts, and no name or other text of a user stands in what it evaluates.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._quotas = durable(database, "quotas")
        self._requests = durable(database, "requests")

    async def prepare(self) -> None:
        """
        Create the index of open requests, which only this needs.

        Raises what `create_indexes` does.
        """
        await create_index(self._database, OPEN_REQUESTS)

    async def take(self, organization_id: str, wanted: int, quota: Quota, *, token: str) -> Share:
        """
        Take so many submissions out of the bucket, as far as they are there, with a place for each.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        change = _taking(wanted, quota, token)
        try:
            document = await self._change(organization_id, change)
        except DuplicateKeyError:
            # Another process made the document at the same moment, so now it is there.
            document = await self._change(organization_id, change)
        others = sum(place["count"] for place in document["places"] if place["token"] != token)
        return Share(
            granted=document["granted"], underway_elsewhere=others, next_in=_next_in(document, quota)
        )

    async def give_back(self, organization_id: str, *, token: str, unused: int) -> None:
        """Give up the places, and so many submissions. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing(CALLER_LIMIT):
            await self._quotas.update_one(
                {"_id": organization_id}, {"$pull": {"places": {"token": token}}, "$inc": {"left": unused}}
            )

    async def open_requests(self, organization_id: str, *, limit: int) -> int:
        """How many requests have not ended, counted up to `limit`. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            return await self._requests.count_documents(
                {"organization_id": organization_id, "status": {"$in": _OPEN}},
                limit=limit,
                hint=OPEN_REQUESTS.name,
            )

    async def _change(self, organization_id: str, change: list[Document]) -> Document:
        with writing(CALLER_LIMIT):
            changed = await self._quotas.find_one_and_update(
                {"_id": organization_id}, change, upsert=True, return_document=ReturnDocument.AFTER
            )
        return changed or {}


def _taking(wanted: int, quota: Quota, token: str) -> list[Document]:
    """Fill the bucket up for the time since it was last looked at, then take from it."""
    size = quota.submissions_per_minute
    if size is None:
        left: Any = 0
        granted: Any = wanted
    else:
        passed_ms = {"$max": [0, {"$subtract": ["$$NOW", _if_of("$at", ("date",), "$$NOW")]}]}
        filled = {
            "$add": [
                {"$max": [0, _if_of("$left", _NUMBER, size)]},
                {"$multiply": [passed_ms, size / _MINUTE_MS]},
            ]
        }
        left = {"$min": [size, filled]}
        granted = {"$toInt": {"$max": [0, {"$min": [wanted, {"$floor": "$left"}]}]}}
    alive = {"$filter": {"input": _if_of("$places", ("array",), []), "cond": {"$and": _ALIVE}}}
    place = {
        "token": token,
        "count": "$granted",
        "until": {"$add": ["$$NOW", int(_RESERVED_FOR.total_seconds() * 1000)]},
    }
    places = [place] if quota.max_open_requests is not None else []
    return [
        {"$set": {"schema": SCHEMA, "left": left, "at": "$$NOW", "places": alive}},
        {"$set": {"granted": granted}},
        {
            "$set": {
                "left": {"$subtract": ["$left", 0 if size is None else "$granted"]},
                "places": {"$concatArrays": ["$places", places]},
            }
        },
    ]


def _if_of(field: str, types: Sequence[str], otherwise: Any) -> Document:
    """The field, if it is of one of these types; it may be missing, and somebody may have spoilt it."""
    return {"$cond": [{"$in": [{"$type": field}, list(types)]}, field, otherwise]}


def _next_in(document: Document, quota: Quota) -> timedelta:
    if quota.submissions_per_minute is None:
        return timedelta(0)
    missing = max(0.0, 1 - document["left"])
    return timedelta(seconds=math.ceil(missing * 60 / quota.submissions_per_minute))
