"""Why a request is stopped, and how its attempts end then."""

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.stop import CANCELLED, DEADLINE, STOPS, stopped
from agent_service.domain.transitions import cancelled
from agent_service.domain.verdict import deadline_exceeded
from tests.support.contexts import NOW, a_context


def test_a_cancelled_attempt_ends_as_cancelled_whoever_writes_it() -> None:
    assert stopped(CANCELLED, at=NOW, chunks=2) == cancelled(at=NOW, chunks=2)


def test_a_deadline_fails_the_attempt_whoever_writes_it() -> None:
    transition = stopped(DEADLINE, at=NOW, chunks=2)
    assert transition == deadline_exceeded(at=NOW, chunks=2)
    assert (transition.outcome, transition.status) == (AttemptOutcome.FAILED, ContextStatus.FAILED)
    assert transition.error is not None
    assert (transition.error.code, transition.error.retryable) == ("deadline_exceeded", False)


def test_every_flag_is_a_field_of_a_context_that_is_not_set_at_first() -> None:
    context = a_context()
    assert [getattr(context, stop.flag) for stop in STOPS] == [False] * len(STOPS)


def test_every_stop_ends_its_context() -> None:
    assert all(stopped(stop, at=NOW).terminal for stop in STOPS)
