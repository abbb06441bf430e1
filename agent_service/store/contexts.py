"""Contexts: inserting and reading the stored unit of work."""

from collections.abc import Collection as AnyCollection
from collections.abc import Mapping, Sequence

from pymongo.errors import BulkWriteError

from agent_service.domain.context import ENDED, Context, ContextStatus
from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.json_value import JsonValue
from agent_service.domain.request import context_id
from agent_service.store.documents import context_document, context_of
from agent_service.store.driver import Database, Document, Session, durable
from agent_service.store.operations import is_duplicate, reading, writing
from agent_service.store.paging import decode_all
from agent_service.store.stored_json import NotJsonError, json_of

#: A list, because a status may be anything.
_ENDS = [status.value for status in ENDED]


def ids_of_request(request_id: str) -> Document:
    """The range of the ids of a request's contexts and chunks: `/` follows `.` in ASCII."""
    return {"$gte": f"{request_id}.", "$lt": f"{request_id}/"}


def ids_of_callbacks(request_id: str) -> Document:
    """The range of the ids of all deliveries of a request's callback: `;` follows `:` in ASCII."""
    return {"$gte": f"{request_id}:", "$lt": f"{request_id};"}


class ContextCollection:
    """The collection `contexts`, as far as contexts are inserted and read; claims and ends are elsewhere."""

    def __init__(self, database: Database) -> None:
        self._current = durable(database, "contexts")
        self._committed = durable(database, "contexts", read="majority")

    async def insert(self, contexts: Sequence[Context], *, session: Session | None = None) -> None:
        """
        Insert in the given order; those that exist already are left alone.

        Raises `StoreUnavailable`, `WriteOutcomeUnknown` or `UnstorableValue`.
        """
        documents = [context_document(context) for context in contexts]
        while documents:
            try:
                with writing():
                    await self._current.insert_many(documents, ordered=True, session=session)
            except BulkWriteError as error:
                if session is not None or not is_duplicate(error):
                    raise
                documents = documents[error.details["writeErrors"][0]["index"] + 1 :]
            else:
                return

    async def of_request(self, request_id: str, *, session: Session | None = None) -> list[Context]:
        """
        All contexts of a request as a majority has them, in no particular order.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._committed.find({"_id": ids_of_request(request_id)}, session=session)
            return [context_of(document) async for document in found]

    async def progress(self, ids: AnyCollection[str]) -> list[Context]:
        """
        These contexts, as far as events tell of them: without inputs, outputs and leases.

        Those that go on and cannot be decoded are left out. Raises `StoreUnavailable`, or
        `UndecodableDocument` for one that has ended.
        """
        unneeded = {"input": 0, "output": 0, "metadata": 0, "lease": 0}
        with reading():
            documents = await self._committed.find({"_id": {"$in": list(ids)}}, unneeded).to_list(None)
        # One that has not ended will, as failed, and can be decoded then.
        ended = [document for document in documents if document.get("status") in _ENDS]
        going_on = [document for document in documents if document not in ended]
        return [*map(context_of, ended), *decode_all(going_on, context_of)]

    async def results(self, request_id: str, steps: AnyCollection[str]) -> list[Context]:
        """
        The contexts of these steps, without inputs and histories, and without those that cannot be decoded.

        Raises `StoreUnavailable`.
        """
        ids = [context_id(request_id, step) for step in steps]
        with reading():
            found = self._committed.find({"_id": {"$in": ids}}, {"input": 0, "metadata": 0, "history": 0})
            return decode_all(await found.to_list(None), context_of)

    async def outputs(self, request_id: str, steps: AnyCollection[str]) -> Mapping[str, JsonValue]:
        """
        The outputs of those of the named steps that completed.

        Raises `StoreUnavailable` or `UndecodableDocument`.
        """
        ids = {context_id(request_id, step): step for step in steps}
        with reading():
            found = self._committed.find({"_id": {"$in": list(ids)}}, {"status": 1, "output": 1})
            documents = [document async for document in found]
        try:
            return {
                ids[document["_id"]]: json_of(document.get("output"))
                for document in documents
                if document.get("status") == ContextStatus.COMPLETED
            }
        except NotJsonError as error:
            raise UndecodableDocument(f"an output of {request_id} is or holds a {error}") from None
