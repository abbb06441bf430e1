"""Schedule: contexts that wait for a time, and making those claimable that are due."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo import ASCENDING, UpdateMany

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import Candidate, Line
from agent_service.domain.stop import STOPS
from agent_service.store.documents import waiting_end
from agent_service.store.driver import Database, Document, bulk_write, durable
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing

#: Before all times; a comparison with it leaves out what is no time at all.
_BEGINNING = datetime.min.replace(tzinfo=UTC)
#: What says where a context waits once it is claimable.
_IN_LINE = ("service", "queue", "priority", "organization_id", "rank")


class ScheduleCollection:
    """The collection `contexts`, as far as contexts wait for their `run_at`."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._contexts = durable(database, "contexts")

    async def next_run_at(self) -> datetime | None:
        """When the next scheduled context is due, or None. Raises `StoreUnavailable`."""
        with reading():
            # Whatever else stands there would sort first and hide what is due.
            first = await self._contexts.find_one(
                {"status": ContextStatus.SCHEDULED.value, "run_at": {"$gte": _BEGINNING}},
                {"run_at": 1},
                sort=[("run_at", ASCENDING)],
            )
        return None if first is None else first["run_at"]

    async def promote(self, now: datetime, *, limit: int = 500) -> int:
        """
        Make claimable what is due at `now`, at most `limit` of them; returns how many were due.

        What is to stop ends instead. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with reading():
            due = self._contexts.find(
                {"status": ContextStatus.SCHEDULED.value, "run_at": {"$lte": now}},
                dict.fromkeys(_IN_LINE, 1),
                sort=[("run_at", ASCENDING), ("_id", ASCENDING)],
                limit=limit,
            )
            documents = [document async for document in due]
        ids = [document["_id"] for document in documents]
        if not ids:
            return 0
        # Due still, because another process may have promoted it, and its worker scheduled it anew.
        waiting = {
            "_id": {"$in": ids},
            "status": ContextStatus.SCHEDULED.value,
            "run_at": {"$lte": now},
        }
        with self._notifier.after(lambda: self._say_claimable(documents)), writing():
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

    def _say_claimable(self, documents: Sequence[Document]) -> None:
        waiting: dict[Line, list[Candidate]] = {}
        for document in documents:
            match document:
                case {
                    "_id": str(document_id),
                    "service": str(service),
                    "queue": str(queue),
                    "priority": int(priority),
                    "organization_id": str(organization_id),
                    "rank": int(rank),
                }:
                    line = Line(service, queue, priority, organization_id)
                    waiting.setdefault(line, []).append(Candidate(document_id, rank))
        self._notifier.work(waiting)
        for candidates in waiting.values():
            self._notifier.contexts_changed([each.id for each in candidates])
