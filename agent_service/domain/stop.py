"""Stop: why what has not ended of a request shall not go on, and how its contexts end then."""

from dataclasses import dataclass
from datetime import datetime

from agent_service.domain.context import AttemptOutcome, ContextError, ContextStatus
from agent_service.domain.transitions import CANCELLATION, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """
    One reason to stop.

    `flag` is the field of a context that says so, before anything else is done about it: a context that bears
    it never becomes `pending` or `scheduled` again.
    """

    flag: str
    status: ContextStatus
    error: ContextError


#: Somebody asked for the end of the request.
CANCELLED = Stop(flag="cancel_requested", status=ContextStatus.CANCELLED, error=CANCELLATION)
#: The request took longer than it may.
DEADLINE = Stop(
    flag="deadline_passed",
    status=ContextStatus.FAILED,
    error=ContextError(
        code="deadline_exceeded", message="the deadline of the request has passed", retryable=False
    ),
)
#: A context that bears several flags ends for the first of these.
STOPS = (CANCELLED, DEADLINE)


def stopped(stop: Stop, *, at: datetime, chunks: int = 0) -> Transition:
    """The end of an attempt that was stopped, or that would have let its context run again."""
    return Transition(
        outcome=AttemptOutcome(stop.status.value),
        status=stop.status,
        at=at,
        error=stop.error,
        chunks=chunks,
    )
