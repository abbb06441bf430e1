"""Callbacks: what is read of requests whose clients want to be told of their ends, and what is undone."""

from collections.abc import Collection as AnyCollection

from agent_service.domain.callback import EndedRequest
from agent_service.domain.request import Callback, RequestStatus
from agent_service.store.contexts import ids_of_callbacks
from agent_service.store.documents import caller_of
from agent_service.store.driver import Database, Document, Session, durable
from agent_service.store.operations import reading, writing
from agent_service.store.paging import decode_all
from agent_service.store.stored_fields import CALLBACK_REQUEST

_PROJECTION = {
    "organization_id": 1,
    "user_id": 1,
    "correlation_id": 1,
    "trace": 1,
    "callback": 1,
    "status": 1,
    "finished_at": 1,
}


class CallbackCollection:
    """The collections `requests` and `contexts`, as far as callbacks need them."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")
        self._committed = durable(database, "requests", read="majority")

    async def ended(
        self, request_ids: AnyCollection[str], *, session: Session | None = None
    ) -> list[EndedRequest]:
        """
        Those of these requests that have ended and that name a callback.

        In the session in which they were ended nothing is read that is older. Raises `StoreUnavailable`.
        """
        with reading():
            found = self._committed.find({"_id": {"$in": list(request_ids)}}, _PROJECTION, session=session)
            documents = [document async for document in found]
        return decode_all((document for document in documents if _wants_callback(document)), _ended)

    async def delete_orphans(
        self, request_ids: AnyCollection[str], *, session: Session | None = None
    ) -> None:
        """
        Delete the callbacks of those of these requests that are gone, because they were purged.

        In the session in which they were ended, none counts as gone because a stale primary has not heard of
        it. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with reading():
            found = self._committed.find({"_id": {"$in": list(request_ids)}}, {"_id": 1}, session=session)
            gone = set(request_ids) - {document["_id"] async for document in found}
        if gone:
            with writing():
                await self._contexts.delete_many({"$or": [{"_id": ids_of_callbacks(each)} for each in gone]})


def _wants_callback(document: Document) -> bool:
    return bool(document.get("callback")) and document.get("finished_at") is not None


def _ended(document: Document) -> EndedRequest:
    CALLBACK_REQUEST.check(document)
    return EndedRequest(
        id=document["_id"],
        caller=caller_of(document),
        callback=Callback(url=document["callback"]["url"]),
        status=RequestStatus(document["status"]),
        finished_at=document["finished_at"],
    )
