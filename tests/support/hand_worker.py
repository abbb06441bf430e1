"""A worker by hand: claims, ends and settles contexts one by one, as a test says."""

import uuid
from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextError, Lease
from agent_service.domain.json_value import JsonObject
from agent_service.domain.transitions import Transition, completed, failed
from agent_service.settler import WrittenEnd
from agent_service.store.claims import Claim
from agent_service.store.outcomes import Outcome
from tests.support.claiming import claim_waiting

SERVICES = ("generation", "analysis", "communication")


async def claim(
    contexts: ContextManager, service: str, *, lease: timedelta = timedelta(seconds=30), limit: int = 1
) -> list[Context]:
    """Claim for one service, once all is there that was submitted through the same store."""
    await contexts.store.calls.finish()
    return await claim_now(contexts, service, lease=lease, limit=limit)


async def claim_now(contexts: ContextManager, service: str, *, lease: timedelta, limit: int) -> list[Context]:
    """Claim for one service what is there."""
    now = contexts.now()
    held = Lease(token=uuid.uuid4().hex, worker="hand", expires_at=now + lease)
    wanted = Claim(service=service, queues=("default",), lease=held, at=now)
    return await claim_waiting(contexts, wanted, limit)


def success(contexts: ContextManager, context: Context, *, chunks: int = 0) -> Transition:
    """The step completed; its output says which attempt that was."""
    output: JsonObject = {"text": context.step, "attempt": context.attempt}
    return completed(at=contexts.now(), output=output, usage=None, chunks=chunks)


def failure(contexts: ContextManager) -> Transition:
    """The step failed for good."""
    error = ContextError(code="rejected", message="no", retryable=False)
    return failed(at=contexts.now(), error=error, chunks=0)


async def end(contexts: ContextManager, context: Context, transition: Transition) -> None:
    """Write how an attempt ended, and what follows."""
    outcome = Outcome(context=context, transition=transition)
    lost = await contexts.finish([outcome])
    assert not lost
    await contexts.settle_ends([WrittenEnd.of(outcome)])
    await contexts.store.settled_marks.flush()


async def work_off(
    contexts: ContextManager, *, failing: tuple[str, ...] = (), lease: timedelta = timedelta(seconds=30)
) -> int:
    """Do everything that can be claimed until nothing is left; returns how many attempts that were."""
    done = 0
    while True:
        claimed = [c for service in SERVICES for c in await claim(contexts, service, lease=lease)]
        if not claimed:
            return done
        for context in claimed:
            bad = context.step in failing
            await end(contexts, context, failure(contexts) if bad else success(contexts, context))
            done += 1
