"""SettlementView: what settling reads of contexts and requests, and what of that cannot be decoded."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from agent_service.domain.context import ContextStatus
from agent_service.domain.request import RequestStatus, Step, context_id
from agent_service.domain.settling import RequestPlan
from agent_service.store.driver import Collection as Documents
from agent_service.store.driver import Document, Session
from agent_service.store.operations import reading
from agent_service.store.paging import decode_all
from agent_service.store.shapes import ARRAY, Field, Shape
from agent_service.store.stored_shapes import REQUEST, STEP

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
#: What is read of a request.
_PLAN = Shape(
    REQUEST.name,
    {
        **{name: REQUEST.fields[name] for name in ("_id", "status", "callback")},
        "steps": Field(
            kind=ARRAY,
            shape=Shape("step", {name: STEP.fields[name] for name in ("name", "service", "after")}),
        ),
    },
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedContext:
    """A context that has ended and is not settled."""

    id: str
    request_id: str
    step: str
    status: ContextStatus
    finished_at: datetime


@dataclass(slots=True)
class Undecodable:
    """Ids of what was read while settling and cannot be decoded; `ended` are contexts that ended for it."""

    contexts: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)


class SettlementView:
    """What settling reads, in one causally consistent session and from what a majority has."""

    def __init__(self, contexts: Documents, requests: Documents, session: Session | None) -> None:
        self._contexts = contexts
        self._requests = requests
        self.session = session
        #: What was passed over.
        self.undecodable = Undecodable()

    async def ended(self, context_ids: Collection[str]) -> list[EndedContext]:
        """
        Which of these contexts have ended and are not settled, in the order of their ends.

        The id of each says whose it is, whatever else somebody has spoilt. Raises `StoreUnavailable`.
        """
        with reading():
            found = self._contexts.find(
                {"_id": {"$in": list(context_ids)}, "settled": False},
                {"status": 1, "finished_at": 1},
                session=self.session,
            )
            documents = [document async for document in found]
        ended = self._decode(documents, _ended_context, self.undecodable.contexts)
        return sorted(ended, key=lambda context: (context.finished_at, context.id))

    async def plans(self, request_ids: Collection[str]) -> list[RequestPlan]:
        """The plans of those of these requests that exist. Raises `StoreUnavailable`."""
        with reading():
            found = self._requests.find(
                {"_id": {"$in": list(request_ids)}},
                {"steps.name": 1, "steps.after": 1, "steps.service": 1, "status": 1, "callback": 1},
                session=self.session,
            )
            documents = [document async for document in found]
        return self._decode(documents, _plan, self.undecodable.requests)

    async def statuses(self, plans: Collection[RequestPlan]) -> dict[str, dict[str, ContextStatus]]:
        """
        Request id → step → status; a context that does not exist yet is not in it.

        Raises `StoreUnavailable`.
        """
        statuses: dict[str, dict[str, ContextStatus]] = {plan.id: {} for plan in plans}
        ids = [context_id(plan.id, step.name) for plan in plans for step in plan.steps]
        with reading():
            found = self._contexts.find({"_id": {"$in": ids}}, {"status": 1}, session=self.session)
            documents = [document async for document in found]
        for request_id, step, status in self._decode(documents, _status, self.undecodable.contexts):
            statuses[request_id][step] = status
        return statuses

    def _decode(
        self, documents: Sequence[Document], decode: Callable[[Document], T], odd: set[str]
    ) -> list[T]:
        """What can be decoded; the ids of the others are added to `odd`."""
        undecodable: list[str] = []
        decoded = decode_all(documents, decode, undecodable)
        odd.update(undecodable)
        return decoded


def _status(document: Document) -> tuple[str, str, ContextStatus]:
    """The request and the step of a context, which its id names, and its status."""
    request_id, _, step = document["_id"].partition(".")
    return request_id, step, ContextStatus(document["status"])


def _ended_context(document: Document) -> EndedContext:
    request_id, step, status = _status(document)
    finished_at = document.get("finished_at")
    return EndedContext(
        id=document["_id"],
        request_id=request_id,
        step=step,
        status=status,
        # It orders what follows, and nothing else.
        finished_at=finished_at if isinstance(finished_at, datetime) else _LONG_AGO,
    )


def _plan(document: Document) -> RequestPlan:
    if not _PLAN.fits(document):
        raise _PLAN.undecodable(document)
    steps = tuple(
        Step(name=step["name"], service=step["service"], input=None, after=tuple(step["after"]))
        for step in document["steps"]
    )
    return RequestPlan(
        id=document["_id"],
        steps=steps,
        status=RequestStatus(document["status"]),
        callback=bool(document.get("callback")),
    )
