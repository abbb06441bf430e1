"""Dead callbacks: deliveries that failed, latest first, found in the index `others`."""

from collections.abc import Collection as AnyCollection
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pymongo import DESCENDING

from agent_service.domain.callback import CALLBACK_SERVICE, callback_id, delivery_number
from agent_service.domain.context import ContextStatus
from agent_service.domain.request import DEFAULT_QUEUE
from agent_service.store.contexts import ids_of_callbacks
from agent_service.store.documents import error_of
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading
from agent_service.store.paging import Page, decode_all, decode_page

_FAILED = {
    "service": CALLBACK_SERVICE,
    "queue": DEFAULT_QUEUE,
    "status": ContextStatus.FAILED.value,
}
_PROJECTION = {
    "request_id": 1,
    "organization_id": 1,
    "status": 1,
    "error": 1,
    "attempt": 1,
    "finished_at": 1,
    "expires_at": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackDelivery:
    """One delivery of a callback; `number` says which, from 1 on, and `attempts` how often it was sent."""

    request_id: str
    number: int
    organization_id: str
    status: ContextStatus
    error_code: str
    attempts: int
    finished_at: datetime | None
    expires_at: datetime


class DeadCallbackCollection:
    """The collection `contexts`, as far as it holds callbacks that were not delivered."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts", read="majority")

    async def failed(
        self,
        before: datetime,
        *,
        since: datetime | None = None,
        organization_id: str | None = None,
        error_code: str | None = None,
        limit: int = 100,
    ) -> Page[CallbackDelivery]:
        """
        A page of the deliveries that failed from `since` on and before `before`, latest first.

        It may be longer than `limit`: all of one date are on the same page, and the next page is that before
        the date of its end. Raises `StoreUnavailable`.
        """
        base: Document = dict(_FAILED)
        if organization_id is not None:
            base["organization_id"] = organization_id
        if error_code is not None:
            base["error.code"] = error_code
        ended: Document = {"$lt": before}
        if since is not None:
            ended["$gte"] = since
        with reading():
            found = await self._contexts.find(
                {**base, "finished_at": ended}, _PROJECTION, sort=[("finished_at", DESCENDING)], limit=limit
            ).to_list(None)
            if len(found) == limit:
                # The index has no id by which one of the same date could follow another.
                last = found[-1]["finished_at"]
                same = await self._contexts.find({**base, "finished_at": last}, _PROJECTION).to_list(None)
                found = [document for document in found if document["finished_at"] != last] + same
        return decode_page(found, _delivery, lambda end: (end["finished_at"], end["_id"]))

    async def followed(self, deliveries: AnyCollection[CallbackDelivery]) -> frozenset[CallbackDelivery]:
        """Those of these deliveries after which there is another one. Raises `StoreUnavailable`."""
        following = {callback_id(each.request_id, each.number + 1): each for each in deliveries}
        with reading():
            found = self._contexts.find({"_id": {"$in": list(following)}}, {"_id": 1})
            return frozenset([following[document["_id"]] async for document in found])

    async def latest(self, request_ids: AnyCollection[str]) -> Mapping[str, CallbackDelivery]:
        """The last delivery, however it stands, of each of these requests. Raises `StoreUnavailable`."""
        if not request_ids:
            return {}
        with reading():
            found = await self._contexts.find(
                {"$or": [{"_id": ids_of_callbacks(request_id)} for request_id in request_ids]}, _PROJECTION
            ).to_list(None)
        deliveries = sorted(decode_all(found, _delivery), key=lambda delivery: delivery.number)
        return {delivery.request_id: delivery for delivery in deliveries}


def _delivery(document: Document) -> CallbackDelivery:
    error = error_of(document.get("error"))
    return CallbackDelivery(
        request_id=document["request_id"],
        number=delivery_number(document["_id"]),
        organization_id=document["organization_id"],
        status=ContextStatus(document["status"]),
        error_code="" if error is None else error.code,
        attempts=document["attempt"],
        finished_at=document["finished_at"],
        expires_at=document["expires_at"],
    )
