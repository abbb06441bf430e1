"""Requests: the collection `requests`."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import itemgetter

from pymongo.errors import BulkWriteError, DuplicateKeyError

from agent_service.domain.json_value import JsonValue
from agent_service.domain.request import Request, RequestStatus
from agent_service.store.documents import json_object_of, request_document, request_of
from agent_service.store.driver import Database, Document, Session, durable
from agent_service.store.insertion import Encoded, insert_all
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.paging import Odd, Page, Place, decode_apart, decode_page, read_page
from agent_service.store.stored_fields import STANDING


class RequestCollection:
    """The collection `requests`; whatever a client is shown comes from what a majority has."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._current = durable(database, "requests")
        self._committed = durable(database, "requests", read="majority")

    async def insert(self, request: Request, *, session: Session | None = None) -> bool:
        """
        Insert a request; False if its idempotency key is taken.

        Inside a caller's transaction a taken key aborts that transaction, so look it up first. Raises
        `StoreUnavailable`, `WriteOutcomeUnknown` or `UnstorableValue`.
        """
        try:
            with writing(CALLER_LIMIT):
                await self._current.insert_one(request_document(request), session=session)
        except DuplicateKeyError:
            return False
        return True

    async def insert_many(
        self, requests: Sequence[Request], *, encoded: Sequence[Encoded] = ()
    ) -> frozenset[str]:
        """
        Insert requests together; returns the ids of those whose idempotency key is taken.

        `encoded` are they as they are sent, where they were encoded before.

        What was inserted before is left alone, so this can be repeated. Raises `StoreUnavailable`,
        `WriteOutcomeUnknown` or `UnstorableValue`; then any of them may have been inserted.
        """
        documents: Sequence[Document | Encoded] = encoded
        if not encoded:
            documents = [request_document(request) for request in requests]
        try:
            with writing(CALLER_LIMIT):
                await insert_all(self._database, self._current, documents, ordered=False)
        except BulkWriteError as error:
            refused = error.details["writeErrors"]
            return frozenset(
                requests[item["index"]].id for item in refused if item.get("keyPattern") != {"_id": 1}
            )
        return frozenset()

    async def get(self, request_id: str, *, organization_id: str | None = None) -> Request | None:
        """A request, of this organization if one is named. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            document = await self._committed.find_one(owned(request_id, organization_id))
        return None if document is None else request_of(document)

    async def progress(self, request_id: str, *, organization_id: str | None = None) -> Request | None:
        """Like `get`, without variables, metadata and the inputs of the steps."""
        with reading(CALLER_LIMIT):
            document = await self._committed.find_one(
                owned(request_id, organization_id), {"variables": 0, "metadata": 0, "steps.input": 0}
            )
        return None if document is None else request_of(document)

    async def status(self, request_id: str, *, organization_id: str | None = None) -> RequestStatus | None:
        """
        The stored status of a request; None if it is not there.

        Raises `StoreUnavailable` or `UndecodableDocument`.
        """
        with reading(CALLER_LIMIT):
            document = await self._committed.find_one(owned(request_id, organization_id), {"status": 1})
        if document is None:
            return None
        STANDING.check(document)
        return RequestStatus(document["status"])

    async def by_idempotency_key(
        self, organization_id: str, key: str, *, session: Session | None = None
    ) -> Request | None:
        """
        The request that this key made, as far as a majority has it. Raises `StoreUnavailable`.
        """
        with reading(CALLER_LIMIT):
            document = await self._committed.find_one(
                {"organization_id": organization_id, "idempotency_key": key}, session=session
            )
        return None if document is None else request_of(document)

    async def mark_planned(self, request_ids: Collection[str], *, session: Session | None = None) -> None:
        """
        All contexts of these requests are inserted, however the requests stand.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with writing():
            await self._current.update_many(
                {"_id": {"$in": list(request_ids)}}, {"$set": {"planned": True}}, session=session
            )

    async def unplanned_ids(
        self, before: datetime, *, after: Place | None = None, limit: int = 100
    ) -> Page[str]:
        """
        A page of the ids of requests from before `before` whose contexts may be missing, oldest first.

        `after` is the place, (creation, id), of the last one of the page before. Raises `StoreUnavailable`.
        """
        with reading():
            page = await read_page(
                self._committed,
                {"planned": False},
                "created_at",
                before=before,
                after=after,
                limit=limit,
                projection={"created_at": 1},
            )
        return decode_page(page, itemgetter("_id"), itemgetter("created_at", "_id"))

    async def sizes(self, request_ids: Collection[str]) -> Mapping[str, int]:
        """The bytes of those of these requests that are there. Raises `StoreUnavailable`."""
        with reading():
            found = self._committed.find(
                {"_id": {"$in": list(request_ids)}}, {"size": {"$bsonSize": "$$ROOT"}}
            )
            return {document["_id"]: document["size"] async for document in found}

    async def unplanned(self, request_ids: Collection[str]) -> tuple[list[Request], list[Odd]]:
        """
        Those of these requests whose contexts may be missing, and what of them cannot be decoded.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._committed.find({"_id": {"$in": list(request_ids)}, "planned": False})
            return decode_apart(await found.to_list(None), request_of)

    async def variables(self, request_id: str) -> Mapping[str, JsonValue]:
        """The variables of a request; empty if it is gone. Raises `StoreUnavailable`."""
        with reading():
            document = await self._committed.find_one({"_id": request_id}, {"variables": 1})
        return {} if document is None else json_object_of(document.get("variables"))


def owned(request_id: str, organization_id: str | None) -> Document:
    """The filter of one request, of this organization if one is named."""
    if organization_id is None:
        return {"_id": request_id}
    return {"_id": request_id, "organization_id": organization_id}
