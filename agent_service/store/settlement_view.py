"""SettlementView: what settling reads of contexts and requests (protocol, rule 8)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import Line, rank_at
from agent_service.domain.request import RequestStatus, Step, context_id
from agent_service.domain.settling import RequestPlan
from agent_service.store.driver import Collection as Documents
from agent_service.store.driver import Document, Session
from agent_service.store.operations import reading
from agent_service.store.paging import Odd, decode_all, decode_apart
from agent_service.store.shapes import FIRST_TIME
from agent_service.store.stored_fields import ENDED_CONTEXT, PLAN, request_id_in, step_in

_PLANNED = dict.fromkeys(
    (
        "schema",
        *(f"steps.{field}" for field in ("name", "after", "service", "queue")),
        *("status", "callback", "priority", "organization_id", "created_at"),
    ),
    1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedContext:
    """A context that has ended and is not settled."""

    id: str
    request_id: str
    step: str
    status: ContextStatus
    finished_at: datetime


class SettlementView:
    """
    What settling reads, in one causally consistent session and from what a majority has.

    Whose a context is, is read from its id, which nobody can change.
    """

    def __init__(self, contexts: Documents, requests: Documents, session: Session) -> None:
        self._contexts = contexts
        self._requests = requests
        self.session = session

    async def ended(self, context_ids: Collection[str]) -> list[EndedContext]:
        """
        Which of these contexts have ended and are not settled, in the order of their ends.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._contexts.find(
                {"_id": {"$in": list(context_ids)}, "settled": False},
                {"status": 1, "finished_at": 1},
                session=self.session,
            )
            ended = decode_all(await found.to_list(None), _ended_context)
        return sorted(ended, key=lambda context: (context.finished_at, context.id))

    async def plans(self, request_ids: Collection[str]) -> tuple[list[RequestPlan], list[Odd]]:
        """
        The plans of those of these requests that exist, and the requests that cannot be decoded.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._requests.find(
                {"_id": {"$in": list(request_ids)}},
                _PLANNED,
                session=self.session,
            )
            return decode_apart(await found.to_list(None), _plan)

    async def statuses(self, plans: Collection[RequestPlan]) -> dict[str, dict[str, ContextStatus]]:
        """
        Request id → step → status; a context that does not exist yet is not in it.

        One in a status that nobody knows counts as running: it ends at the deadline of its request. Raises
        `StoreUnavailable`.
        """
        statuses: dict[str, dict[str, ContextStatus]] = {plan.id: {} for plan in plans}
        ids = [context_id(plan.id, step.name) for plan in plans for step in plan.steps]
        with reading():
            found = self._contexts.find({"_id": {"$in": ids}}, {"status": 1}, session=self.session)
            async for document in found:
                status = _status_of(document.get("status"))
                statuses[request_id_in(document["_id"])][step_in(document["_id"])] = status
        return statuses


def _status_of(stored: Any) -> ContextStatus:
    try:
        return ContextStatus(stored)
    except ValueError:
        return ContextStatus.RUNNING


def _ended_context(document: Document) -> EndedContext:
    ENDED_CONTEXT.check(document)
    finished_at = document.get("finished_at")
    return EndedContext(
        id=document["_id"],
        request_id=request_id_in(document["_id"]),
        step=step_in(document["_id"]),
        status=ContextStatus(document["status"]),
        # It says in which order ends follow, and nothing else.
        finished_at=finished_at if isinstance(finished_at, datetime) else FIRST_TIME,
    )


def _plan(document: Document) -> RequestPlan:
    PLAN.check(document)
    steps = tuple(
        Step(name=step["name"], service=step["service"], input=None, after=tuple(step["after"]))
        for step in document["steps"]
    )
    return RequestPlan(
        id=document["_id"],
        steps=steps,
        status=RequestStatus(document["status"]),
        callback=bool(document.get("callback")),
        lines=_lines_of(document),
        rank=rank_at(document["created_at"]) if isinstance(document.get("created_at"), datetime) else 0,
    )


def _lines_of(document: Document) -> Mapping[str, Line]:
    """Where the steps wait; what is odd here is told to nobody, and found by looking."""
    priority, organization_id = document.get("priority"), document.get("organization_id")
    if not isinstance(priority, int) or not isinstance(organization_id, str):
        return {}
    return {
        step["name"]: Line(step["service"], queue, priority, organization_id)
        for step in document["steps"]
        if isinstance(queue := step.get("queue"), str)
    }
