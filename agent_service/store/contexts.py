"""Contexts: inserting and reading the stored unit of work."""

import math
import time
from collections.abc import Collection as AnyCollection
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pymongo.errors import BulkWriteError

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.errors import StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.json_value import JsonValue
from agent_service.domain.line import Candidate, Line
from agent_service.domain.request import context_id
from agent_service.store.documents import context_document, context_of, json_of
from agent_service.store.driver import Database, Document, Session, durable
from agent_service.store.insertion import fit_together, insert_ahead, insert_all
from agent_service.store.notifier import Notifier
from agent_service.store.operations import is_duplicate, reading, writing
from agent_service.store.planned_document import PlannedContext, planned_document

#: Contexts are sent within this time of sending, or reading, their request (protocol, rule 7).
SENT_WITHIN = timedelta(seconds=5)
#: Then they are there, or never will be: a write ends after 15 s, and clocks differ a little.
THERE_WITHIN = timedelta(seconds=30)


def ids_of_request(request_id: str) -> Document:
    """The range of the ids of a request's contexts and chunks: `/` follows `.` in ASCII."""
    return {"$gte": f"{request_id}.", "$lt": f"{request_id}/"}


def ids_of_callbacks(request_id: str) -> Document:
    """The range of the ids of all deliveries of a request's callback: `;` follows `:` in ASCII."""
    return {"$gte": f"{request_id}:", "$lt": f"{request_id};"}


class ContextCollection:
    """The collection `contexts`, as far as contexts are inserted and read; claims and ends are elsewhere."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._database = database
        self._current = durable(database, "contexts")
        self._committed = durable(database, "contexts", read="majority")

    async def insert(
        self,
        contexts: Sequence[Context | PlannedContext],
        *,
        session: Session | None = None,
        until: float = math.inf,
        size: float = math.inf,
        ahead: bool = False,
    ) -> bool:
        """
        Insert in the given order, sending nothing after `until` (monotonic); those that exist are left alone.

        `size` is what they have together, in bytes, at most, if that is known. Returns whether a majority is
        known to have them, once that is so, or, `ahead` of it, once the primary has them: nobody can claim
        them without a majority having them then. Raises `StoreUnavailable`, also where it is too late,
        `WriteOutcomeUnknown` or `UnstorableValue`.
        """
        documents = [
            planned_document(*each) if isinstance(each, PlannedContext) else context_document(each)
            for each in contexts
        ]
        if session is not None:
            with writing():
                await self._current.insert_many(documents, ordered=True, session=session)
            self._notifier.after_transaction(partial(self._say, _news_of(documents), always=True))
            return False
        with self._notifier.after(lambda: self._say(_news_of(documents))):
            ahead = ahead and fit_together(documents, size=size) and time.monotonic() <= until
            if ahead and await self._insert_ahead(documents):
                return False
            await self._insert(documents, until, size, sent=ahead)
            return True

    async def insert_missing(self, contexts: Sequence[Context], *, until: float) -> None:
        """Like `insert`, where most of them may exist: what does is not sent."""
        existing = await self.existing([context.id for context in contexts])
        await self.insert([context for context in contexts if context.id not in existing], until=until)
        # Whoever inserted these may not have come to say so.
        known = [context_document(context) for context in contexts if context.id in existing]
        self._say(_news_of(known))

    async def _insert_ahead(self, documents: Sequence[Document]) -> bool:
        if not documents:
            return False
        with writing():
            return await insert_ahead(self._database, self._current, documents)

    async def _insert(self, documents: Sequence[Document], until: float, size: float, *, sent: bool) -> None:
        while documents:
            if time.monotonic() > until:
                error = WriteOutcomeUnknown if sent else StoreUnavailable
                raise error("it is too late to send the contexts of a request")
            first, sent = not sent, True
            try:
                with writing():
                    await insert_all(self._database, self._current, documents, ordered=True, size=size)
            except StoreUnavailable as error:
                if first:
                    raise
                # What was sent before may have been inserted.
                raise WriteOutcomeUnknown(*error.args) from error
            except BulkWriteError as error:
                if not is_duplicate(error):
                    raise
                rest = documents[error.details["writeErrors"][0]["index"] + 1 :]
            else:
                return
            # Somebody else inserts them too: one look instead of a command for each that exists.
            try:
                existing = await self.existing([document["_id"] for document in rest])
            except StoreUnavailable as error:
                raise WriteOutcomeUnknown(*error.args) from error
            documents = [document for document in rest if document["_id"] not in existing]

    def _say(self, news: "_News", *, always: bool = False) -> None:
        if news.run_at is not None:
            self._notifier.scheduled(news.run_at, always=always)
        self._notifier.work(news.waiting)

    async def of_request(self, request_id: str, *, session: Session | None = None) -> list[Context]:
        """
        All contexts of a request as a majority has them, in no particular order.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._committed.find({"_id": ids_of_request(request_id)}, session=session)
            return [context_of(document) async for document in found]

    async def existing(self, ids: AnyCollection[str]) -> frozenset[str]:
        """The ids of those of these contexts that a majority has. Raises `StoreUnavailable`."""
        if not ids:
            return frozenset()
        with reading():
            found = self._committed.find({"_id": {"$in": list(ids)}}, {"_id": 1})
            return frozenset([document["_id"] async for document in found])

    async def progress(self, ids: AnyCollection[str]) -> list[Context]:
        """
        These contexts, as far as events tell of them: without inputs, outputs and leases.

        Raises `StoreUnavailable`.
        """
        unneeded = {"input": 0, "output": 0, "metadata": 0, "lease": 0}
        with reading():
            found = self._committed.find({"_id": {"$in": list(ids)}}, unneeded)
            return [context_of(document) async for document in found]

    async def results(self, request_id: str, steps: AnyCollection[str]) -> list[Context]:
        """The contexts of these steps, without inputs and histories. Raises `StoreUnavailable`."""
        ids = [context_id(request_id, step) for step in steps]
        with reading():
            found = self._committed.find({"_id": {"$in": ids}}, {"input": 0, "metadata": 0, "history": 0})
            return [context_of(document) async for document in found]

    async def outputs(self, request_id: str, steps: AnyCollection[str]) -> Mapping[str, JsonValue]:
        """
        The outputs of those of the named steps that completed.

        Raises `StoreUnavailable`.
        """
        ids = [context_id(request_id, step) for step in steps]
        with reading():
            found = self._committed.find({"_id": {"$in": ids}}, {"step": 1, "status": 1, "output": 1})
            return {
                document["step"]: json_of(document["output"])
                async for document in found
                if document["status"] == ContextStatus.COMPLETED
            }


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    """What others are to know of new contexts, which may be large themselves."""

    #: What can be claimed.
    waiting: Mapping[Line, Sequence[Candidate]]
    #: When the first becomes claimable that cannot be yet.
    run_at: datetime | None


def _news_of(documents: Sequence[Document]) -> _News:
    waiting: dict[tuple[str, str, float, str], list[Candidate]] = {}
    run_at: datetime | None = None
    for each in documents:
        status = each["status"]
        if status == ContextStatus.PENDING.value:
            line = each["service"], each["queue"], each["priority"], each["organization_id"]
            waiting.setdefault(line, []).append(Candidate(each["_id"], each["rank"]))
        elif status == ContextStatus.SCHEDULED.value and (run_at is None or each["run_at"] < run_at):
            run_at = each["run_at"]
    return _News(waiting={Line(*line): candidates for line, candidates in waiting.items()}, run_at=run_at)
