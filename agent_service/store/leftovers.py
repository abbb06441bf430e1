"""Leftovers: contexts and chunks that were inserted after their request had ended (protocol, rule 16)."""

from collections.abc import Collection, Mapping
from datetime import datetime

from pymongo import ASCENDING

from agent_service.store.driver import Database, Document, Update, bulk_write, durable
from agent_service.store.operations import reading, writing
from agent_service.store.settlement import OUTLIVES, expiry_of_request

#: Where something may have been left.
LEFTOVER_KINDS = ("contexts", "events")


class LeftoverCollection:
    """
    The collections `contexts` and `events`, as far as something in them would stay for ever.

    Ids begin with that of their request, and so with the time at which it came. What is old stands at the
    front of the index of ids, where there is nothing but what was forgotten; no other index is needed.
    """

    def __init__(self, database: Database) -> None:
        self._requests = durable(database, "requests", read="majority")
        self._kinds = {name: durable(database, name) for name in LEFTOVER_KINDS}

    async def find(self, kind: str, until: str, *, after: str = "", limit: int = 100) -> list[str]:
        """
        The ids of requests behind `after` and before `until` of which something has no expiry, in order.

        They are those of `limit` documents, of which several may be of one request. Raises
        `StoreUnavailable`.
        """
        # `/` follows `.`, so this is behind whatever belongs to the last request.
        ids: Document = {"$gte": f"{after}/", "$lt": until}
        with reading():
            documents = self._kinds[kind].find(
                {"_id": ids, "expires_at": None}, {"_id": 1}, sort=[("_id", ASCENDING)], limit=limit
            )
            return list(dict.fromkeys([document["_id"].split(".")[0] async for document in documents]))

    async def let_expire(self, kind: str, request_ids: Collection[str], now: datetime) -> int:
        """
        Let what is left of these requests expire, if they have ended or are gone; says how many of them are.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        kept = await self._kept_until(request_ids)
        updates: list[Update] = []
        for request_id in request_ids:
            kept_until = kept.get(request_id, now)
            if kept_until is not None:
                updates.append(expiry_of_request(request_id, kept_until + OUTLIVES))
        with writing():
            await bulk_write(self._kinds[kind], updates)
        return len(updates)

    async def _kept_until(self, request_ids: Collection[str]) -> Mapping[str, datetime | None]:
        """How long each of these requests is kept that is still there; None if it has no such time."""
        with reading():
            found = self._requests.find({"_id": {"$in": list(request_ids)}}, {"expires_at": 1})
            times = {document["_id"]: document.get("expires_at") async for document in found}
        # Where something else stands there the request stays, and what is of it stays with it.
        return {each: time if isinstance(time, datetime) else None for each, time in times.items()}
