"""Schedule: contexts that wait for a time, and making those claimable that are due."""

from datetime import UTC, datetime

from pymongo import ASCENDING, UpdateMany

from agent_service.domain.context import ContextStatus
from agent_service.domain.stop import STOPS
from agent_service.store.documents import waiting_end
from agent_service.store.driver import Database, bulk_write, durable
from agent_service.store.operations import reading, writing
from agent_service.store.paging import date_of

#: Before and after all times; a comparison with them leaves out what is no time at all.
_BEGINNING, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class ScheduleCollection:
    """The collection `contexts`, as far as contexts wait for their `run_at`."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")

    async def next_run_at(self) -> datetime | None:
        """When the next scheduled context is due, or None. Raises `StoreUnavailable`."""
        with reading():
            # Whatever else stands there would sort first and hide what is due.
            first = await self._contexts.find_one(
                {"status": ContextStatus.SCHEDULED.value, "run_at": {"$gte": _BEGINNING, "$lte": _END}},
                {"run_at": 1},
                sort=[("run_at", ASCENDING)],
            )
        return None if first is None else date_of(first, "run_at")

    async def promote(self, now: datetime, *, limit: int = 500) -> int:
        """
        Make claimable what is due at `now`, at most `limit` of them; returns how many were due.

        What is to stop ends instead. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with reading():
            due = self._contexts.find(
                {"status": ContextStatus.SCHEDULED.value, "run_at": {"$lte": now}},
                {"_id": 1},
                sort=[("run_at", ASCENDING), ("_id", ASCENDING)],
                limit=limit,
            )
            ids = [document["_id"] async for document in due]
        if not ids:
            return 0
        # Due still, because another process may have promoted it, and its worker scheduled it anew.
        waiting = {
            "_id": {"$in": ids},
            "status": ContextStatus.SCHEDULED.value,
            "run_at": {"$lte": now},
        }
        with writing():
            await bulk_write(
                self._contexts,
                [
                    UpdateMany(
                        {**waiting, **{stop.flag: {"$ne": True} for stop in STOPS}},
                        {"$set": {"status": ContextStatus.PENDING.value}},
                    ),
                    *(
                        UpdateMany(
                            {**waiting, stop.flag: True}, {"$set": waiting_end(stop.status, stop.error, now)}
                        )
                        for stop in STOPS
                    ),
                ],
            )
        return len(ids)
