"""Signs of life and contexts in every state, for what is said of the whole fleet."""

from datetime import datetime, timedelta
from typing import Any

from agent_service.domain.context import Context, ContextStatus
from agent_service.store import Store
from agent_service.store.workers import SignOfLife
from tests.support.contexts import a_context, many_contexts
from tests.support.worker_tools import Raw


def a_sign(store: Store, *, service: str = "generation", age: float = 0, **changes: Any) -> SignOfLife:
    """What a worker of the service said of itself `age` seconds ago."""
    usual: dict[str, Any] = {"id": f"worker-of-{service}", "service": service}
    return a_sign_at(store.clock.now() - timedelta(seconds=age), **(usual | changes))


def a_sign_at(seen_at: datetime, **changes: Any) -> SignOfLife:
    """What a worker said of itself at this time; `changes` are fields of SignOfLife."""
    usual: dict[str, Any] = {
        "id": "worker",
        "service": "generation",
        "queues": ("default",),
        "host": "host",
        "pid": 7,
        "concurrency": 10,
        "running": 3,
        "loop_lag": timedelta(seconds=0.25),
        "version": "1.2.3",
        "started_at": seen_at - timedelta(hours=1),
        "seen_at": seen_at,
    }
    return SignOfLife(**(usual | changes))


async def insert_standing(store: Store, **changes: Any) -> None:
    """One pending, two scheduled, three blocked and four running contexts."""
    numbers = {
        ContextStatus.PENDING: 1,
        ContextStatus.SCHEDULED: 2,
        ContextStatus.BLOCKED: 3,
        ContextStatus.RUNNING: 4,
    }
    for status, number in numbers.items():
        await store.contexts.insert(many_contexts(number, status=status, **changes))


async def insert_ended(
    store: Store,
    raw: Raw,
    *,
    ago: float,
    status: ContextStatus = ContextStatus.COMPLETED,
    waited: float = 1,
    took: float = 2,
    **changes: Any,
) -> Context:
    """A context that ended so many seconds ago, in its second attempt that took so long; settled."""
    finished = store.clock.now() - timedelta(seconds=ago)
    started = finished - timedelta(seconds=took)
    first = started - timedelta(minutes=1)
    context = a_context(
        status=status,
        attempt=2,
        settled=True,
        released_at=first - timedelta(seconds=waited),
        finished_at=finished,
        **changes,
    )
    await store.contexts.insert([context])
    history = [{"started_at": at, "token": "token"} for at in (first, started)]
    await raw["contexts"].update_one(
        {"_id": context.id}, {"$set": {"started_at": started, "history": history}}
    )
    return context
