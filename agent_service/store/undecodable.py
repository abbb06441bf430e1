"""
Undecodable documents: ending contexts and requests that no process can read, field by field.

Nothing of such a document is trusted but its `_id`, which nobody can change: it names the request and the
step. What is wrong in it is replaced, so that its request can be read once it has ended.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from agent_service.domain.callback import CALLBACK_SERVICE, is_callback
from agent_service.domain.context import (
    ENDED,
    UNDECODABLE_CONTEXT,
    AttemptOutcome,
    ContextError,
    ContextStatus,
)
from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.request import RequestStatus
from agent_service.domain.stop import DEADLINE
from agent_service.store.cancellation import OPEN, WAITING
from agent_service.store.contexts import ids_of_request
from agent_service.store.documents import context_of, error_document, request_of, waiting_end
from agent_service.store.driver import Database, Document, durable, is_mock
from agent_service.store.operations import reading, writing
from agent_service.store.shapes import Field
from agent_service.store.stored_shapes import CONTEXT, LEASE, RECORD, REQUEST

#: How many are looked at in one go.
MOST_AT_ONCE = 100
_ENDED = sorted(status.value for status in ENDED)
_ENDS_OF_REQUESTS = frozenset(status.value for status in RequestStatus if status.ended)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


def undecodable_error(problem: UndecodableDocument) -> ContextError:
    """The error of a context that ends because a document cannot be decoded."""
    return ContextError(code=UNDECODABLE_CONTEXT, message=str(problem), retryable=False)


class UndecodableCollection:
    """The collections `contexts` and `requests`, as far as something in them cannot be decoded."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")
        self._requests = durable(database, "requests")
        # mongomock knows neither $expr nor $$NOW.
        self._server_time = not is_mock(database)

    async def waiting(self, wanted: Document, *, sort: Sequence[tuple[str, int]]) -> list[str]:
        """Which of the first contexts that match cannot be decoded, by id. Raises `StoreUnavailable`."""
        with reading():
            found = await self._contexts.find(wanted, sort=sort, limit=MOST_AT_ONCE).to_list(None)
        return [document["_id"] for document in found if _problem_of(document) is not None]

    async def without_lease(self, *, limit: int = MOST_AT_ONCE) -> list[str]:
        """
        The ids of running contexts whose lease has no date, so that it would never end.

        Raises `StoreUnavailable`.
        """
        with reading():
            # An index finds what is no date on both sides of all dates.
            found = self._contexts.find(
                {
                    "status": ContextStatus.RUNNING.value,
                    "lease.expires_at": {"$not": {"$gte": _BEGINNING}},
                    "_id": {"$gte": ""},
                },
                {"_id": 1},
                limit=limit,
            )
            return [document["_id"] async for document in found]

    async def end_contexts(
        self, context_ids: Collection[str], *, at: datetime, token: str | None = None
    ) -> list[str]:
        """
        End those of these contexts that have not ended and cannot be decoded; returns their ids.

        A lease that runs is respected, unless it is that with `token`. Raises `StoreUnavailable` or
        `WriteOutcomeUnknown`.
        """
        if not context_ids:
            return []
        with reading():
            found = await self._contexts.find(
                {"_id": {"$in": list(context_ids)}, "status": {"$nin": _ENDED}}
            ).to_list(None)
        ended: list[str] = []
        for document in found:
            problem = _problem_of(document)
            if problem is None:
                continue
            with writing():
                done = await self._contexts.update_one(
                    self._untouched(document, at, token), _context_end(document, problem, at)
                )
            if done.matched_count:
                ended.append(document["_id"])
        return ended

    def _untouched(self, document: Document, at: datetime, token: str | None) -> Document:
        """The filter of a context that is still what was read of it, and that no worker has a lease of."""
        wanted: Document = {"_id": document["_id"], "status": {"$eq": document.get("status")}}
        if document.get("status") != ContextStatus.RUNNING.value:
            return wanted
        lease = document.get("lease")
        wanted["lease"] = {"$eq": lease}
        if (
            isinstance(lease, dict)
            and isinstance(lease.get("expires_at"), datetime)
            and lease.get("token") != token
        ):
            wanted["lease.expires_at"] = {"$lt": at}
            if self._server_time:
                wanted["$expr"] = {"$lt": ["$lease.expires_at", "$$NOW"]}
        return wanted

    async def end_request(self, request_id: str, *, at: datetime, retention: timedelta) -> bool:
        """
        End a request that cannot be decoded, and its contexts before it; says whether it has ended.

        Those that run are told to stop, and the request ends with the last of them: this can be repeated.
        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with reading():
            document = await self._requests.find_one({"_id": request_id})
        problem = None if document is None else _problem_with(document)
        if document is None or problem is None:
            return False
        if await self._contexts_go_on(request_id, undecodable_error(problem), at):
            return False
        with writing():
            done = await self._requests.update_one(
                {"_id": request_id, "status": {"$eq": document.get("status")}},
                _request_end(document, at, retention),
            )
        return bool(done.matched_count)

    async def _contexts_go_on(self, request_id: str, error: ContextError, at: datetime) -> bool:
        """End those contexts of a request that no worker holds; says whether others go on."""
        ids = {"_id": ids_of_request(request_id)}
        running = {**ids, "status": ContextStatus.RUNNING.value}
        with writing():
            await self._contexts.update_many(
                {**ids, "status": {"$in": list(OPEN)}}, {"$set": {DEADLINE.flag: True}}
            )
        with writing():
            await self._contexts.update_many(
                {**ids, "status": {"$in": list(WAITING)}},
                {"$set": waiting_end(ContextStatus.FAILED, error, at)},
            )
        with reading():
            return await self._contexts.find_one(running, {"_id": 1}) is not None


def _problem_with(request: Document) -> UndecodableDocument | None:
    try:
        request_of(request)
    except UndecodableDocument as problem:
        return problem
    return None


def _request_end(document: Document, at: datetime, retention: timedelta) -> Document:
    """What ends a request, if it has not ended, and stands in the place of what cannot be read."""
    fields = REQUEST.neutral(document, at) | {"planned": True}
    # A unique index holds what is there, null too.
    unset = {name: "" for name in ("idempotency_key",) if name in fields}
    fields = {name: value for name, value in fields.items() if name not in unset}
    # The status may be anything, a list too.
    if not any(document.get("status") == end for end in _ENDS_OF_REQUESTS):
        fields |= {"status": RequestStatus.FAILED.value, "finished_at": at, "expires_at": at + retention}
    return {"$set": fields} | ({"$unset": unset} if unset else {})


def _problem_of(document: Document) -> UndecodableDocument | None:
    try:
        context = context_of(document)
    except UndecodableDocument as problem:
        return problem
    if context.status is ContextStatus.RUNNING and context.lease is None:
        return UndecodableDocument(f"the context {context.id} is running and has no lease")
    return None


def _context_end(document: Document, problem: UndecodableDocument, at: datetime) -> Document:
    """What ends a context: an error, and values in the place of what cannot be read."""
    fields = CONTEXT.neutral(document, at) | _of_id(document)
    fields |= {
        "status": ContextStatus.FAILED.value,
        "error": error_document(undecodable_error(problem)),
        "lease": None,
        "finished_at": at,
        "settled": False,
    }
    if "history" in fields:
        fields["history"] = _readable(document.get("history"))
    lease = document.get("lease")
    if (
        document.get("status") == ContextStatus.RUNNING.value
        and isinstance(lease, dict)
        and LEASE.fits(lease)
    ):
        repaired = {**document, **fields}
        fields["history"] = [*(repaired.get("history") or ()), _record(repaired, lease, at)]
    return {"$set": fields}


def _of_id(document: Document) -> Document:
    """The fields that the id tells, where they are wrong."""
    # What has no text as its id belongs to no request.
    context_id = document["_id"] if isinstance(document["_id"], str) else ""
    request_id, _, step = context_id.partition(".")
    known = {"request_id": request_id, "step": step, "idempotency_key": context_id}
    if is_callback(context_id):
        known |= {"request_id": context_id.partition(":")[0], "step": CALLBACK_SERVICE}
    return {name: value for name, value in known.items() if not isinstance(document.get(name), str)}


def _readable(history: Any) -> list[Document]:
    field = Field(kind=CONTEXT.fields["history"].kind, shape=RECORD)
    lines: Sequence[Any] = history if isinstance(history, list) else ()
    return [line for line in lines if field.fits([line])]


def _record(repaired: Document, lease: Document, at: datetime) -> Document:
    """The line of the attempt that a lease was for (protocol, rule 2)."""
    return {
        "attempt": repaired["attempt"],
        "token": lease["token"],
        "worker": lease["worker"],
        "started_at": repaired.get("started_at") or at,
        "ended_at": at,
        "outcome": AttemptOutcome.FAILED.value,
        "chunks": 0,
        "error": repaired["error"],
        "run_at": None,
    }
