"""Cancellation: ending requests from outside, asked for or past their deadline (protocol, rules 9 and 11)."""

from dataclasses import dataclass
from datetime import datetime

from loguru import logger
from pymongo import ReturnDocument

from agent_service.domain.context import ContextStatus
from agent_service.domain.request import Request, RequestStatus
from agent_service.domain.stop import Stop
from agent_service.store.contexts import THERE_WITHIN, ids_of_request
from agent_service.store.documents import SCHEMA, request_of, waiting_end
from agent_service.store.driver import Database, Document, durable
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing
from agent_service.store.paging import Odd, Page, Place, decode_page, read_page
from agent_service.store.requests import owned
from agent_service.store.shapes import FIRST_TIME, LAST_TIME
from agent_service.store.stored_fields import OPEN_REQUEST

#: No worker holds a context in one of these.
WAITING = (ContextStatus.BLOCKED.value, ContextStatus.SCHEDULED.value, ContextStatus.PENDING.value)
_OPEN = (*WAITING, ContextStatus.RUNNING.value)
#: Running, and no rescuer finds it by the end of its lease.
_UNHELD: Document = {
    "status": ContextStatus.RUNNING.value,
    "lease.expires_at": {"$not": {"$gte": FIRST_TIME, "$lte": LAST_TIME}},
}
#: In a status that nobody knows.
_LOST: Document = {
    "status": {"$nin": [status.value for status in ContextStatus]},
    "schema": {"$not": {"$gt": SCHEMA}},
}
_ENDS = [status.value for status in RequestStatus if status.ended]
_PROJECTION = {"schema": 1, "status": 1, "steps.name": 1, "created_at": 1, "deadline_at": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A request that has not ended and is to end; contexts of it may be missing."""

    id: str
    step_names: tuple[str, ...]


class CancellationCollection:
    """The collections `requests` and `contexts`, as far as requests end from outside."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._requests = durable(database, "requests")
        self._committed_requests = durable(database, "requests", read="majority")
        self._contexts = durable(database, "contexts")

    async def ask(self, request_id: str, *, organization_id: str | None = None) -> Request | None:
        """
        Note that a request shall be cancelled; None if there is no such request, or if it has ended.

        From here on the rescuer sees to it. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with writing():
            document = await self._requests.find_one_and_update(
                {**owned(request_id, organization_id), "finished_at": None},
                {"$set": {"cancel_requested": True}},
                return_document=ReturnDocument.AFTER,
            )
        return None if document is None else request_of(document)

    async def asked_for(self, *, after: Place | None = None, limit: int = 100) -> Page[OpenRequest]:
        """
        A page of the requests that shall be cancelled and have not ended, oldest first.

        `after` is the place, (creation, id), of the last one of the page before. Raises `StoreUnavailable`.
        """
        asked = {"cancel_requested": True, "finished_at": None}
        return await self._open(asked, "created_at", LAST_TIME, after, limit)

    async def overdue(
        self, now: datetime, *, after: Place | None = None, limit: int = 100
    ) -> Page[OpenRequest]:
        """
        A page of the requests whose deadline has passed and that have not ended, those longest overdue first.

        `after` is the place, (deadline, id), of the last one of the page before. Raises `StoreUnavailable`.
        """
        return await self._open({"finished_at": None}, "deadline_at", now, after, limit)

    async def _open(
        self, base: Document, key: str, before: datetime, after: Place | None, limit: int
    ) -> Page[OpenRequest]:
        with reading():
            page = await read_page(
                self._committed_requests,
                base,
                key,
                before=before,
                after=after,
                limit=limit,
                projection=_PROJECTION,
            )
        return decode_page(page, _open_request, lambda last: (last[key], last["_id"]))

    async def flag_contexts(self, request_id: str, stop: Stop) -> None:
        """
        Flag every context of a request that has not ended, whoever holds it.

        This comes before anything ends: what bears the flag does not run again, so nothing slips through
        between a worker and `end_waiting`. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with self._notifier.after(lambda: self._notifier.stop(request_id)), writing():
            await self._contexts.update_many(
                {"_id": ids_of_request(request_id), "status": {"$in": list(_OPEN)}},
                {"$set": {stop.flag: True}},
            )

    async def end_waiting(self, request_id: str, stop: Stop, *, at: datetime) -> None:
        """
        End those contexts of a request that no worker holds.

        One that runs under a lease that no worker can have is such a context, too, and one in a status that
        nobody knows. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        fields = {**waiting_end(stop.status, stop.error, at), "lease": None}
        with self._notifier.after(lambda: self._notifier.requests_changed([request_id])), writing():
            await self._contexts.update_many(
                {
                    "_id": ids_of_request(request_id),
                    "$or": [{"status": {"$in": list(WAITING)}}, _UNHELD, _LOST],
                },
                {"$set": fields},
            )

    async def end_undecodable(self, odd: Odd, *, at: datetime, expires_at: datetime) -> bool:
        """
        End a request that cannot be decoded as failed; says whether it has ended.

        It has not where one of its contexts runs, or while its planner, as nobody else can, may insert some.
        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        request_id = odd.document["_id"]
        running = {"_id": ids_of_request(request_id), "status": ContextStatus.RUNNING.value}
        being_planned = {
            "_id": request_id,
            "planned": {"$ne": True},
            "created_at": {"$gt": at - THERE_WITHIN, "$lt": at + THERE_WITHIN},
        }
        with reading():
            if await self._contexts.find_one(running, {"_id": 1}) is not None:
                return False
            if await self._requests.find_one(being_planned, {"_id": 1}) is not None:
                return False
        end = {"status": RequestStatus.FAILED.value, "finished_at": at, "expires_at": expires_at}
        with self._notifier.after(lambda: self._notifier.requests_changed([request_id])), writing():
            done = await self._requests.update_one(
                {"_id": request_id, "status": {"$nin": _ENDS}}, {"$set": {**end, "planned": True}}
            )
        if done.matched_count:
            logger.bind(request_id=request_id).error("a request ended as undecodable: {}", odd.error)
            return True
        # It had ended, and is no longer looked for either.
        with writing():
            await self._requests.update_one(
                {"_id": request_id, "planned": {"$ne": True}}, {"$set": {"planned": True}}
            )
        return True


def _open_request(document: Document) -> OpenRequest:
    OPEN_REQUEST.check(document)
    return OpenRequest(
        id=document["_id"],
        step_names=tuple(step["name"] for step in document["steps"]),
    )
