"""Statistics: how many contexts of each queue stand where, counted in the keys of the index `standing`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, DESCENDING

from agent_service.domain.context import ContextStatus
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading
from agent_service.store.paging import decode_all
from agent_service.store.shapes import ARRAY, DATE, Field, Shape
from agent_service.telemetry.metrics import QueueName

#: Every query begins with what is first in the index, and what no query of the workers names.
_FIRST = {"schema": SCHEMA}
_WHEN = Field(DATE)
#: What is read of a context that completed.
_ENDED = Shape(
    {
        "released_at": _WHEN,
        "started_at": _WHEN,
        "finished_at": _WHEN,
        "history": Field(ARRAY, inside=Shape({"started_at": _WHEN})),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedContext:
    """The times of a context that an attempt completed."""

    #: When it first could be claimed; when it was, first and last.
    released_at: datetime
    first_started_at: datetime
    started_at: datetime
    finished_at: datetime


class StatisticsCollection:
    """The collection `contexts`, as far as it is counted; no document is read but those of `latest`."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")

    async def queues(self) -> list[QueueName]:
        """Every queue that has a context, ended ones included. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            services = _texts(await self._contexts.distinct("service", _FIRST))
            return [
                QueueName(service, queue)
                for service in services
                for queue in _texts(await self._contexts.distinct("queue", {**_FIRST, "service": service}))
            ]

    async def count(self, queue: QueueName, status: ContextStatus) -> int:
        """How many have this status; a million takes a quarter of a second. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            return await self._contexts.count_documents(_standing(queue, status))

    async def count_ended(
        self, queue: QueueName, status: ContextStatus, *, since: datetime, before: datetime
    ) -> int:
        """How many contexts got this end in this time. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            return await self._contexts.count_documents(
                {**_standing(queue, status), "finished_at": {"$gte": since, "$lt": before}}
            )

    async def pending_since(self, queue: QueueName) -> datetime | None:
        """Since when the context has been claimable that has waited longest. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            oldest = await self._contexts.find_one(
                _standing(queue, ContextStatus.PENDING),
                {"_id": 0, "run_at": 1},
                sort=[("finished_at", ASCENDING), ("run_at", ASCENDING)],
            )
        since = None if oldest is None else oldest["run_at"]
        # What is of another type stands before all dates, until somebody claims it.
        return since if isinstance(since, datetime) else None

    async def latest(self, queue: QueueName, *, since: datetime, limit: int) -> Sequence[EndedContext]:
        """The last contexts that completed, without those that were copied. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            found = await self._contexts.find(
                {**_standing(queue, ContextStatus.COMPLETED), "finished_at": {"$gte": since}},
                {"released_at": 1, "started_at": 1, "finished_at": 1, "history.started_at": 1},
                sort=[("finished_at", DESCENDING)],
                limit=limit,
            ).to_list(None)
        return decode_all((document for document in found if document.get("history")), _ended_of)


def _texts(values: Sequence[object]) -> list[str]:
    """In order, without what is no name of anything."""
    return sorted(value for value in values if isinstance(value, str))


def _standing(queue: QueueName, status: ContextStatus) -> Document:
    return {**_FIRST, "service": queue.service, "queue": queue.queue, "status": status.value}


def _ended_of(document: Document) -> EndedContext:
    _ENDED.check(document)
    return EndedContext(
        released_at=document["released_at"],
        first_started_at=document["history"][0]["started_at"],
        started_at=document["started_at"],
        finished_at=document["finished_at"],
    )
