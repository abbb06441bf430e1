"""Builders of requests, contexts and claims; whatever a test does not name has a usual value."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson

from agent_service.domain.context import Context, ContextError, ContextStatus, Lease
from agent_service.domain.request import Caller, Request, RequestStatus, Step, Submission
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.documents import request_document
from agent_service.store.insertion import Encoded
from tests.support.claiming import claim_one

_STARTED = datetime.now(UTC)
#: When the tests began, in whole milliseconds, which is what MongoDB keeps. Not a date of long ago, because
#: the server removes what has expired.
NOW = _STARTED.replace(microsecond=_STARTED.microsecond // 1_000 * 1_000)
SECOND = timedelta(seconds=1)
AN_ERROR = ContextError(code="no_answer", message="nobody answered", retryable=True)


def a_request(*steps: Step, priority: int = 0, **changes: Any) -> Request:
    """A request of these steps, or of one; `changes` are fields of Request."""
    chosen = steps or (Step(name="draft", service="generation", input={"template": "Hello"}),)
    usual: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "caller": Caller(),
        "submission": Submission(steps=chosen, priority=priority, deadline=timedelta(days=1)),
        "status": RequestStatus.ACCEPTED,
        "planned": False,
        "created_at": NOW,
        "deadline_at": NOW + timedelta(days=1),
        "fingerprint": "fingerprint",
    }
    return Request(**(usual | changes))


def encoded(request: Request) -> Encoded:
    """The request as it is sent, however large it is."""
    return Encoded(bson.encode(request_document(request)))


def a_step(name: str, *after: str, service: str = "generation") -> Step:
    """A step that waits for the steps `after`."""
    return Step(name=name, service=service, input=name, after=after)


def a_context(step: str = "draft", *, request_id: str | None = None, **changes: Any) -> Context:
    """A pending context of the service `generation`; `changes` are fields of Context."""
    request_id = request_id or uuid.uuid4().hex
    usual: dict[str, Any] = {
        "id": f"{request_id}.{step}",
        "request_id": request_id,
        "step": step,
        "service": "generation",
        "queue": "default",
        "caller": Caller(),
        "status": ContextStatus.PENDING,
        "priority": 0,
        "rank": 1,
        "run_at": NOW,
        "waiting_on": (),
        "input": {"template": "Hello"},
        "idempotency_key": f"{request_id}.{step}",
        "max_attempts": 5,
        "created_at": NOW,
        "deadline_at": NOW + timedelta(days=1),
        "released_at": NOW,
    }
    return Context(**(usual | changes))


def ended_context(
    step: str = "draft", *, status: ContextStatus = ContextStatus.COMPLETED, **changes: Any
) -> Context:
    """A context that has ended and is not settled."""
    usual: dict[str, Any] = {"status": status, "finished_at": NOW, "settled": False}
    return a_context(step, **(usual | changes))


def a_lease(*, expires_at: datetime = NOW + 30 * SECOND, worker: str = "worker") -> Lease:
    """A lease with a token of its own."""
    return Lease(token=uuid.uuid4().hex, worker=worker, expires_at=expires_at)


def a_claim(
    *,
    service: str = "generation",
    queues: tuple[str, ...] = ("default",),
    lease: Lease | None = None,
    at: datetime = NOW,
    lone: bool = False,
) -> Claim:
    """A claim for the default queue of one service."""
    return Claim(service=service, queues=queues, lease=lease or a_lease(), at=at, lone=lone)


async def insert_claimed(
    store: Store, contexts: Sequence[Context], *, expires_at: datetime = NOW + 30 * SECOND
) -> list[Context]:
    """
    Insert these contexts and claim each with a lease of its own; in the given order, as they were claimed.

    The service of each must have no other pending contexts.
    """
    await store.contexts.insert(contexts)
    claimed = {}
    for service in [context.service for context in contexts]:
        context = await claim_one(store, a_claim(service=service, lease=a_lease(expires_at=expires_at)))
        assert context is not None
        claimed[context.id] = context
    return [claimed[context.id] for context in contexts]


async def the_context(store: Store, like: Context) -> Context:
    """How this context is stored now."""
    contexts = await store.contexts.of_request(like.request_id)
    return next(context for context in contexts if context.id == like.id)


def many_contexts(count: int, **changes: Any) -> list[Context]:
    """So many pending contexts in the order in which they are claimed."""
    return [replace(a_context(**changes), rank=rank) for rank in range(count)]
