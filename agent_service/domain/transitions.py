"""
Transitions: the only list of legal moves of a context, each a value made by a constructor.

    blocked ──release──▶ pending ──claim──▶ running ──completed──▶ completed
       │                    ▲                  ├──failed─────────▶ failed
       │                    ├──released────────┤
       │                    │                  ├──cancelled──────▶ cancelled
       └──cancelled         └── scheduled ◀────┴──retry_at, lease_lost

The moves that leave `running` are `Transition` values; the store applies one, fenced by the lease token.
Moves to `pending` or `scheduled` become `cancelled` where the request's cancellation came first, and `failed`
where its deadline did.
"""

from dataclasses import dataclass
from datetime import datetime

from agent_service.domain.context import (
    AttemptOutcome,
    AttemptRecord,
    Context,
    ContextError,
    ContextStatus,
)
from agent_service.domain.json_value import JsonObject, JsonValue, own_copy

#: The error of a context that ends because its request was cancelled.
CANCELLATION = ContextError(code="cancelled", message="the request was cancelled", retryable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """How an attempt ends: where its context goes, and what is written with it."""

    outcome: AttemptOutcome
    status: ContextStatus
    at: datetime
    chunks: int = 0
    output: JsonValue = None
    usage: JsonObject | None = None
    error: ContextError | None = None
    run_at: datetime | None = None
    #: Whether the try that the claim took is given back.
    refund: bool = False

    @property
    def terminal(self) -> bool:
        """Whether the context ends with it."""
        return self.status.ended


def completed(*, at: datetime, output: JsonValue, usage: JsonObject | None, chunks: int) -> Transition:
    """The base service did the work; what it answered is copied, because it is written later."""
    return Transition(
        outcome=AttemptOutcome.COMPLETED,
        status=ContextStatus.COMPLETED,
        at=at,
        output=own_copy(output),
        usage=None if usage is None else {name: own_copy(value) for name, value in usage.items()},
        chunks=chunks,
    )


def retry_at(
    *, at: datetime, run_at: datetime, error: ContextError, chunks: int, refund: bool = False
) -> Transition:
    """
    The attempt failed in a way that may pass; the context is claimable again at `run_at`.

    With `refund` the try does not count, because the base service never tried.
    """
    return Transition(
        outcome=AttemptOutcome.RETRYING,
        status=ContextStatus.SCHEDULED,
        at=at,
        run_at=run_at,
        error=error,
        chunks=chunks,
        refund=refund,
    )


def failed(*, at: datetime, error: ContextError, chunks: int) -> Transition:
    """The attempt failed, and there is no further try."""
    return Transition(
        outcome=AttemptOutcome.FAILED, status=ContextStatus.FAILED, at=at, error=error, chunks=chunks
    )


def cancelled(*, at: datetime, chunks: int = 0) -> Transition:
    """The attempt was stopped because its request was cancelled."""
    return Transition(
        outcome=AttemptOutcome.CANCELLED,
        status=ContextStatus.CANCELLED,
        at=at,
        error=CANCELLATION,
        chunks=chunks,
    )


def released(*, at: datetime, chunks: int = 0, run_at: datetime | None = None) -> Transition:
    """
    The worker hands the context back unfinished, and the try is refunded.

    It is claimable at once, or from `run_at` on.
    """
    return Transition(
        outcome=AttemptOutcome.RELEASED,
        status=ContextStatus.PENDING if run_at is None else ContextStatus.SCHEDULED,
        at=at,
        run_at=run_at or at,
        chunks=chunks,
        refund=True,
    )


def lease_lost(*, at: datetime, run_at: datetime, tries: int, max_attempts: int) -> Transition:
    """
    The worker fell silent; the rescuer takes the context back, and the try counts.

    How many chunks the attempt stored is for whoever writes it to count.
    """
    error = ContextError(
        code="lease_lost",
        message="the worker stopped renewing its lease: it crashed, was stopped, or lost its database",
        retryable=tries < max_attempts,
    )
    if tries >= max_attempts:
        return Transition(outcome=AttemptOutcome.LEASE_LOST, status=ContextStatus.FAILED, at=at, error=error)
    return Transition(
        outcome=AttemptOutcome.LEASE_LOST,
        status=ContextStatus.SCHEDULED,
        at=at,
        run_at=run_at,
        error=error,
    )


def record_of(context: Context, transition: Transition) -> AttemptRecord:
    """The line that the latest attempt of `context` leaves in the history when `transition` is applied."""
    lease = context.lease
    if lease is None:
        raise ValueError(f"context {context.id} holds no lease, so no attempt can end")
    return AttemptRecord(
        attempt=context.attempt,
        token=lease.token,
        worker=lease.worker,
        started_at=context.started_at or transition.at,
        ended_at=transition.at,
        outcome=transition.outcome,
        chunks=transition.chunks,
        error=transition.error,
        run_at=transition.run_at,
    )
