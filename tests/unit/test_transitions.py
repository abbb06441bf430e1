from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain.context import AttemptOutcome, Context, ContextError, ContextStatus, Lease
from agent_service.domain.transitions import (
    Transition,
    cancelled,
    completed,
    failed,
    lease_lost,
    record_of,
    released,
    retry_at,
)
from tests.support.contexts import a_context

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=7)
ERROR = ContextError(code="server_error", message="no luck", retryable=True)
LEASE = Lease(token="token", worker="worker", expires_at=LATER)


def context_with(*, lease: Lease | None = LEASE, started_at: datetime | None = NOW) -> Context:
    return a_context(
        request_id="request",
        status=ContextStatus.RUNNING,
        attempt=4,
        tries=2,
        lease=lease,
        started_at=started_at,
    )


@pytest.mark.parametrize(
    ("transition", "status", "outcome", "terminal"),
    [
        (
            completed(at=NOW, output=1, usage=None, chunks=0),
            ContextStatus.COMPLETED,
            AttemptOutcome.COMPLETED,
            True,
        ),
        (failed(at=NOW, error=ERROR, chunks=0), ContextStatus.FAILED, AttemptOutcome.FAILED, True),
        (cancelled(at=NOW), ContextStatus.CANCELLED, AttemptOutcome.CANCELLED, True),
        (
            retry_at(at=NOW, run_at=LATER, error=ERROR, chunks=0),
            ContextStatus.SCHEDULED,
            AttemptOutcome.RETRYING,
            False,
        ),
        (released(at=NOW), ContextStatus.PENDING, AttemptOutcome.RELEASED, False),
    ],
    ids=["completed", "failed", "cancelled", "retry_at", "released"],
)
def test_each_end_of_an_attempt_leads_to_its_own_state(
    transition: Transition, status: ContextStatus, outcome: AttemptOutcome, terminal: bool
) -> None:
    assert (transition.status, transition.outcome, transition.terminal) == (status, outcome, terminal)


def test_only_what_the_worker_hands_back_unfinished_is_refunded() -> None:
    assert released(at=NOW).refund
    assert released(at=NOW).run_at == NOW
    others = [
        completed(at=NOW, output=1, usage=None, chunks=0),
        failed(at=NOW, error=ERROR, chunks=0),
        cancelled(at=NOW),
        retry_at(at=NOW, run_at=LATER, error=ERROR, chunks=0),
        lease_lost(at=NOW, run_at=LATER, tries=1, max_attempts=3),
    ]
    assert not any(transition.refund for transition in others)


def test_a_try_that_the_base_service_never_made_can_be_given_back() -> None:
    transition = retry_at(at=NOW, run_at=LATER, error=ERROR, chunks=0, refund=True)
    assert (transition.refund, transition.run_at) == (True, LATER)


def test_a_lost_lease_is_tried_again_later_as_long_as_tries_are_left() -> None:
    transition = lease_lost(at=NOW, run_at=LATER, tries=2, max_attempts=3)
    assert (transition.status, transition.run_at) == (ContextStatus.SCHEDULED, LATER)
    assert transition.error is not None
    assert (transition.error.code, transition.error.retryable) == ("lease_lost", True)


def test_a_lost_lease_on_the_last_try_ends_the_context() -> None:
    transition = lease_lost(at=NOW, run_at=LATER, tries=3, max_attempts=3)
    assert (transition.status, transition.run_at) == (ContextStatus.FAILED, None)
    assert transition.error is not None
    assert (transition.error.code, transition.error.retryable) == ("lease_lost", False)
    assert transition.outcome is AttemptOutcome.LEASE_LOST


def test_a_cancelled_attempt_says_why_its_context_ended() -> None:
    error = cancelled(at=NOW, chunks=2).error
    assert error is not None
    assert (error.code, error.retryable) == ("cancelled", False)


def test_the_record_keeps_the_token_and_all_that_is_known_of_the_attempt() -> None:
    record = record_of(context_with(), retry_at(at=LATER, run_at=LATER, error=ERROR, chunks=5))
    assert (record.attempt, record.token, record.worker) == (4, "token", "worker")
    assert (record.started_at, record.ended_at, record.run_at) == (NOW, LATER, LATER)
    assert (record.outcome, record.chunks, record.error) == (AttemptOutcome.RETRYING, 5, ERROR)


def test_the_record_of_an_attempt_without_a_start_begins_with_its_end() -> None:
    assert record_of(context_with(started_at=None), released(at=LATER)).started_at == LATER


def test_a_context_that_nobody_holds_has_no_attempt_that_could_end() -> None:
    with pytest.raises(ValueError, match=r"request\.draft holds no lease"):
        record_of(context_with(lease=None), released(at=NOW))
