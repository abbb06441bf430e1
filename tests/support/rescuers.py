"""Rescuers that wait for nothing, and what they are there for: leases that ended, deadlines that passed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.replanner import Replanner
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.support.submissions import planned
from tests.support.worker_tools import AT_ONCE, Raw

#: So short that a process has seen its primary for longer whenever it looks, and that the lease of whoever
#: crashed has ended.
SHORT_LEASE = timedelta(milliseconds=1)
#: What was just written is repaired at once; below zero, because the clock may be set back a little.
NO_GRACE = timedelta(seconds=-1)
#: Milliseconds since which leases and deadlines are over.
_LONG_AGO = 60_000


def a_rescuer(
    store: Store,
    contexts: ContextManager | None = None,
    *,
    lease: timedelta = SHORT_LEASE,
    grace: timedelta = NO_GRACE,
    backoff: RetryPolicy = AT_ONCE,
    every: timedelta | None = None,
) -> Rescuer:
    """One that repairs everything with its next sweep, and what it takes back may be tried again at once."""
    return Rescuer(
        store, contexts or ContextManager(store), lease=lease, grace=grace, backoff=backoff, every=every
    )


def a_replanner(store: Store, contexts: ContextManager | None = None) -> Replanner:
    """One that plans with its first look whatever is not planned."""
    return Replanner(store, contexts or ContextManager(store), young=NO_GRACE, between=timedelta(0))


async def end_leases(raw: Raw) -> None:
    """As if the workers had fallen silent long ago."""
    await raw.contexts.update_many(
        {"status": "running"}, [{"$set": {"lease.expires_at": {"$subtract": ["$$NOW", _LONG_AGO]}}}]
    )


async def pass_deadlines(raw: Raw) -> None:
    """As if all of it had been submitted long ago."""
    for collection in (raw.requests, raw.contexts):
        await collection.update_many({}, [{"$set": {"deadline_at": {"$subtract": ["$$NOW", _LONG_AGO]}}}])


async def repair(
    store: Store, request_id: str, *, work: Callable[[ContextManager], Awaitable[object]]
) -> RequestView:
    """What other processes do: look, sweep, and `work` as workers, until it has ended and all is settled."""
    contexts, requests = ContextManager(store), RequestService(store)
    rescuer, replanner = a_rescuer(store, contexts), a_replanner(store, contexts)
    async with asyncio.timeout(30):
        while True:
            await replanner.look()
            await rescuer.sweep()
            await store.schedule.promote(contexts.now())
            await work(contexts)
            await planned(store)
            view = await requests.get(request_id)
            if view.status.ended and all(context.settled for context in view.contexts):
                return view
