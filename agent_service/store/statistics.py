"""Statistics: how many contexts of each queue stand where, counted in the keys of indexes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bson.min_key import MinKey
from pymongo import DESCENDING

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import rank_at
from agent_service.store.driver import Database, Document, aggregate_in, durable
from agent_service.store.indexes import OTHERS
from agent_service.store.operations import CALLER_LIMIT, reading
from agent_service.store.paging import decode_all
from agent_service.store.shapes import ARRAY, DATE, Field, Shape
from agent_service.telemetry.metrics import QueueName

_PENDING: Document = {"status": ContextStatus.PENDING.value}
#: No index is taken whose first key is not named: whatever the end of the lease is, and all texts.
_RUNNING: Document = {"status": ContextStatus.RUNNING.value, "lease.expires_at": {"$gte": MinKey()}}
_OTHERS: Document = {"status": {"$in": list(OTHERS)}, "service": {"$gte": ""}}
#: What is of another type says nothing, nor does a date for which there is no datetime.
_IS_DATE: Document = {
    "$and": [
        {"$gte": ["$run_at", datetime(1, 1, 1, tzinfo=UTC)]},
        {"$lte": ["$run_at", datetime(9999, 12, 31, tzinfo=UTC)]},
    ]
}
_RUN_AT: Document = {"$min": {"$cond": [_IS_DATE, "$run_at", None]}}
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
        found = set(await self.running())
        for standing in (_PENDING, _OTHERS):
            with reading(CALLER_LIMIT):
                for service in _texts(await self._contexts.distinct("service", standing)):
                    queues = await self._contexts.distinct("queue", {**standing, "service": service})
                    found |= {QueueName(service, queue) for queue in _texts(queues)}
        return sorted(found)

    async def running(self) -> Mapping[QueueName, int]:
        """How many run, of each queue of which one does. Raises `StoreUnavailable`."""
        queue = {"service": "$service", "queue": "$queue"}
        with reading(CALLER_LIMIT):
            found = await aggregate_in(
                self._contexts, [{"$match": _RUNNING}, {"$group": {"_id": queue, "number": {"$sum": 1}}}]
            )
        return {
            QueueName(each["_id"]["service"], each["_id"]["queue"]): each["number"]
            for each in found
            if len(_texts(each["_id"].values())) == len(queue)
        }

    async def count(self, queue: QueueName, status: ContextStatus) -> int:
        """
        How many have this status; a million takes a quarter of a second. For `RUNNING` there is `running`.

        Raises `StoreUnavailable`.
        """
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
        waiting = _standing(queue, ContextStatus.PENDING)
        with reading(CALLER_LIMIT):
            priorities = await self._contexts.distinct("priority", waiting)
        heads = [await self._earliest(_heads({**waiting, "priority": {"$eq": each}})) for each in priorities]
        before = min((at for at in heads if at is not None), default=None)
        if before is None:
            return None
        # Nothing is claimable before it was submitted, so what was submitted later is not looked at.
        earlier = {**waiting, "rank": {"$lt": rank_at(before)}}
        return await self._earliest([{"$match": earlier}]) or before

    async def _earliest(self, pipeline: Sequence[Document]) -> datetime | None:
        """The earliest `run_at` of what a pipeline finds."""
        with reading(CALLER_LIMIT):
            found = await aggregate_in(
                self._contexts, [*pipeline, {"$group": {"_id": None, "run_at": _RUN_AT}}]
            )
        return found[0]["run_at"] if found else None

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


def _heads(waiting: Document) -> list[Document]:
    """The first context of each line of one priority; one key of each is looked at."""
    return [
        {"$match": waiting},
        {"$sort": {"organization_id": 1, "rank": 1, "_id": 1}},
        {"$group": {"_id": "$organization_id", "run_at": {"$first": "$run_at"}}},
    ]


def _texts(values: Iterable[object]) -> list[str]:
    """In order, without what is no name of anything."""
    return sorted(value for value in values if isinstance(value, str))


def _standing(queue: QueueName, status: ContextStatus) -> Document:
    return {"service": queue.service, "queue": queue.queue, "status": status.value}


def _ended_of(document: Document) -> EndedContext:
    _ENDED.check(document)
    return EndedContext(
        released_at=document["released_at"],
        first_started_at=document["history"][0]["started_at"],
        started_at=document["started_at"],
        finished_at=document["finished_at"],
    )
