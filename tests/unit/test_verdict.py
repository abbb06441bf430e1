from datetime import UTC, datetime, timedelta

import bson
import pytest

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import (
    BaseServiceRejected,
    BaseServiceUnavailable,
    ConfigurationError,
    DestinationUnavailable,
    TemplateError,
    UnstorableValue,
)
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.domain.transitions import Transition
from agent_service.domain.verdict import Wait, after_error, deadline_exceeded, describe
from tests.support.contexts import a_context

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLICY = RetryPolicy(base=timedelta(seconds=4), cap=timedelta(seconds=60))


def verdict_of(
    error: Exception,
    *,
    tries: int = 1,
    max_attempts: int = 3,
    deadline: timedelta = timedelta(days=1),
    wait: Wait | None = None,
) -> Transition:
    context = a_context(
        status=ContextStatus.RUNNING,
        attempt=9,
        tries=tries,
        max_attempts=max_attempts,
        deadline_at=NOW + deadline,
    )
    return after_error(context, error, at=NOW, chunks=2, policy=POLICY, random=lambda: 0.5, wait=wait)


def unavailable(retry_after: timedelta | None = None) -> BaseServiceUnavailable:
    return BaseServiceUnavailable("server_error", "the base service answered 503", retry_after=retry_after)


def code_of(transition: Transition) -> str:
    assert transition.error is not None
    return transition.error.code


@pytest.mark.parametrize(("tries", "seconds"), [(1, 2), (2, 4), (3, 8)])
def test_what_may_pass_is_tried_again_after_a_back_off_that_grows(tries: int, seconds: int) -> None:
    transition = verdict_of(unavailable(), tries=tries, max_attempts=10)
    assert (transition.outcome, transition.status) == (AttemptOutcome.RETRYING, ContextStatus.SCHEDULED)
    assert transition.run_at == NOW + timedelta(seconds=seconds)
    assert (code_of(transition), transition.chunks) == ("server_error", 2)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        (timedelta(seconds=30), timedelta(seconds=30)),
        (timedelta(0), timedelta(seconds=1)),
        (timedelta(days=1), timedelta(minutes=15)),
    ],
    ids=["a while", "no time at all", "longer than anybody waits"],
)
def test_a_base_service_that_asks_to_be_left_alone_is_left_alone_and_no_try_is_used(
    asked: timedelta, held: timedelta
) -> None:
    # Half of the base is the jitter.
    jitter = timedelta(seconds=2)
    for tries in (1, 3):
        transition = verdict_of(unavailable(asked), tries=tries, max_attempts=3)
        assert (transition.status, transition.refund) == (ContextStatus.SCHEDULED, True)
        assert transition.run_at == NOW + held + jitter


def test_a_hold_of_the_fleet_that_ends_later_is_waited_for() -> None:
    wait = Wait(until=NOW + timedelta(seconds=50), refund=True)
    transition = verdict_of(unavailable(timedelta(seconds=30)), wait=wait)
    assert (transition.run_at, transition.refund) == (wait.until + timedelta(seconds=2), True)


@pytest.mark.parametrize(
    ("refund", "status"), [(True, ContextStatus.SCHEDULED), (False, ContextStatus.FAILED)]
)
def test_whoever_was_the_probe_waits_and_is_charged_where_the_service_answered(
    refund: bool, status: ContextStatus
) -> None:
    wait = Wait(until=NOW + timedelta(seconds=50), refund=refund)
    assert verdict_of(unavailable(), tries=3, max_attempts=3, wait=wait).status is status
    first = verdict_of(unavailable(), tries=1, max_attempts=3, wait=wait)
    assert (first.status, first.refund) == (ContextStatus.SCHEDULED, refund)
    assert first.run_at is not None
    assert first.run_at >= wait.until


@pytest.mark.parametrize("asked", [None, timedelta(seconds=2)])
def test_what_could_only_go_on_after_its_deadline_ends_now_and_says_what_went_wrong_last(
    asked: timedelta | None,
) -> None:
    transition = verdict_of(unavailable(asked), deadline=timedelta(seconds=1))
    assert (transition.status, code_of(transition), transition.chunks) == (
        ContextStatus.FAILED,
        "deadline_exceeded",
        2,
    )
    assert transition.error is not None
    assert "server_error: the base service answered 503" in transition.error.message
    assert not transition.error.retryable


def test_a_deadline_is_no_reason_not_to_try_again_before_it() -> None:
    assert verdict_of(unavailable(), deadline=timedelta(seconds=2)).status is ContextStatus.FAILED
    assert verdict_of(unavailable(), deadline=timedelta(seconds=2.1)).status is ContextStatus.SCHEDULED


def test_the_tries_are_counted_and_not_the_attempts() -> None:
    assert verdict_of(unavailable(), tries=2, max_attempts=3).status is ContextStatus.SCHEDULED
    last = verdict_of(unavailable(), tries=3, max_attempts=3)
    assert (last.status, last.run_at, code_of(last)) == (ContextStatus.FAILED, None, "server_error")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BaseServiceRejected("rejected", "the base service answered 400: no"), "rejected"),
        (TemplateError("no such value"), "template_error"),
        (UnstorableValue("too deep"), "unstorable_output"),
    ],
)
def test_what_cannot_pass_fails_at_once(error: Exception, code: str) -> None:
    transition = verdict_of(error)
    assert (transition.outcome, transition.status) == (AttemptOutcome.FAILED, ContextStatus.FAILED)
    assert (code_of(transition), transition.chunks) == (code, 2)
    assert transition.error is not None
    assert not transition.error.retryable


def test_an_error_of_the_handler_may_pass_and_is_never_quoted() -> None:
    transition = verdict_of(ValueError("password=hunter2"))
    assert (transition.status, code_of(transition)) == (ContextStatus.SCHEDULED, "handler_error")
    assert transition.error is not None
    assert "ValueError" in transition.error.message
    assert "hunter2" not in transition.error.message


def test_any_other_error_of_ours_may_pass_and_says_what_it_is() -> None:
    error = describe(ConfigurationError("set GENERATION_BASE_URL"))
    assert (error.code, error.message, error.retryable) == (
        "internal_error",
        "set GENERATION_BASE_URL",
        True,
    )


def test_a_long_message_is_cut() -> None:
    message = describe(BaseServiceRejected("rejected", "x" * 5_000)).message
    assert len(message) == 1_000
    assert message.endswith("x…")


@pytest.mark.parametrize("text", ["half a pair: \ud83d", "zero: \0"])
def test_whatever_an_error_says_can_be_stored(text: str) -> None:
    for error in (BaseServiceRejected(text, text), TemplateError(text)):
        described = describe(error)
        document = {"code": described.code, "message": described.message}
        assert bson.decode(bson.encode(document)) == document


def test_a_deadline_that_has_passed_is_a_failure_of_its_own() -> None:
    transition = deadline_exceeded(at=NOW, chunks=1)
    assert (transition.status, code_of(transition), transition.chunks) == (
        ContextStatus.FAILED,
        "deadline_exceeded",
        1,
    )


@pytest.mark.parametrize("asked", [timedelta(seconds=1), timedelta(hours=4)])
def test_the_pause_of_one_destination_is_as_long_as_it_asks_and_costs_no_try(asked: timedelta) -> None:
    transition = verdict_of(DestinationUnavailable("callback_refused", "no", retry_after=asked), tries=3)
    assert (transition.status, transition.refund) == (ContextStatus.SCHEDULED, True)
    # As for others that wait for the same moment, a little later.
    assert transition.run_at == NOW + asked + POLICY.base / 2


def test_a_destination_that_asks_for_more_time_than_there_is_fails_now() -> None:
    error = DestinationUnavailable(
        "callback_refused", "the receiver answered 429", retry_after=timedelta(hours=4)
    )
    transition = verdict_of(error, deadline=timedelta(hours=4))
    assert (transition.status, code_of(transition)) == (ContextStatus.FAILED, "deadline_exceeded")
