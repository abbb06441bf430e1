"""
The document of a context as its request plans it: what `context_document` makes of a new context.

It is made straight from the request, because most contexts are only inserted by whoever plans them.
"""

from typing import NamedTuple

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import rank_at
from agent_service.domain.request import Request, Step, context_id
from agent_service.store.documents import SCHEMA, caller_fields
from agent_service.store.driver import Document


class PlannedContext(NamedTuple):
    """The context that a step of a request begins with."""

    request: Request
    step: Step


def planned_document(request: Request, step: Step) -> Document:
    """The document of a planned context."""
    submission, waits, at = request.submission, bool(step.after), request.created_at
    own_id = context_id(request.id, step.name)
    return {
        "_id": own_id,
        "schema": SCHEMA,
        "request_id": request.id,
        "step": step.name,
        "service": step.service,
        "queue": step.queue,
        **caller_fields(request.caller),
        "status": ContextStatus.BLOCKED.value if waits else ContextStatus.PENDING.value,
        "priority": submission.priority,
        "rank": rank_at(at),
        "run_at": at,
        "waiting_on": list(step.after),
        "input": step.input,
        "metadata": dict(submission.metadata),
        "idempotency_key": own_id,
        "attempt": 0,
        "tries": 0,
        "max_attempts": step.max_attempts,
        "sole": submission.sole,
        "leases_lost": 0,
        "lease": None,
        "cancel_requested": request.cancel_requested,
        "deadline_passed": False,
        "output": None,
        "usage": None,
        "error": None,
        "history": [],
        "settled": None,
        "created_at": at,
        "deadline_at": request.deadline_at,
        "released_at": None if waits else at,
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
    }
