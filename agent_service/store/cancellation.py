"""Cancellation: ending requests from outside, asked for or past their deadline (protocol, rules 9 and 11)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo import ReturnDocument

from agent_service.domain.context import ENDED, ContextStatus
from agent_service.domain.request import Request
from agent_service.domain.stop import Stop
from agent_service.store.contexts import ids_of_request
from agent_service.store.documents import request_of, waiting_end
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading, writing
from agent_service.store.paging import Page, Place, decode_page, read_page
from agent_service.store.requests import owned
from agent_service.store.shapes import ARRAY, Field, Shape
from agent_service.store.stored_shapes import REQUEST, STEP

#: No worker holds a context in one of these.
WAITING = (ContextStatus.BLOCKED.value, ContextStatus.SCHEDULED.value, ContextStatus.PENDING.value)
#: None of them has ended.
OPEN = (*WAITING, ContextStatus.RUNNING.value)
_ENDED = sorted(status.value for status in ENDED)
#: After all times: however old a request is, and whoever's clock made it.
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_PROJECTION = {"planned": 1, "steps.name": 1, "created_at": 1, "deadline_at": 1}
#: What is read of a request.
_OPEN_REQUEST = Shape(
    REQUEST.name,
    {
        **{name: REQUEST.fields[name] for name in ("_id", "planned")},
        "steps": Field(kind=ARRAY, shape=Shape("step", {"name": STEP.fields["name"]})),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A request that has not ended and is to end; while it is not `planned`, contexts may be missing."""

    id: str
    planned: bool
    step_names: tuple[str, ...]


class CancellationCollection:
    """The collections `requests` and `contexts`, as far as requests end from outside."""

    def __init__(self, database: Database) -> None:
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
        return await self._open(asked, "created_at", END_OF_TIME, after, limit)

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
        return decode_page(page, _open_request, key)

    async def flag_contexts(self, request_id: str, stop: Stop) -> None:
        """
        Flag every context of a request that has not ended, whoever holds it.

        This comes before anything ends: what bears the flag does not run again, so nothing slips through
        between a worker and `end_waiting`. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with writing():
            await self._contexts.update_many(
                {"_id": ids_of_request(request_id), "status": {"$in": list(OPEN)}},
                {"$set": {stop.flag: True}},
            )

    async def end_waiting(
        self, request_id: str, stop: Stop, *, at: datetime, expires_at: datetime | None = None
    ) -> None:
        """
        End those contexts of a request that no worker holds, and let them expire if a time is given.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        fields = waiting_end(stop.status, stop.error, at)
        if expires_at is not None:
            fields["expires_at"] = expires_at
        with writing():
            await self._contexts.update_many(
                # What has a status that there is not is held by nobody either.
                {
                    "_id": ids_of_request(request_id),
                    "status": {"$nin": [*_ENDED, ContextStatus.RUNNING.value]},
                },
                {"$set": fields},
            )


def _open_request(document: Document) -> OpenRequest:
    if not _OPEN_REQUEST.fits(document):
        raise _OPEN_REQUEST.undecodable(document)
    return OpenRequest(
        id=document["_id"],
        planned=document["planned"],
        step_names=tuple(step["name"] for step in document["steps"]),
    )
