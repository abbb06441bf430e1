"""CallResult: what says something of the service, and what does not."""

from datetime import timedelta

import pytest

from agent_service.domain.call_result import CallResult, result_of
from agent_service.domain.errors import (
    BaseServiceRejected,
    BaseServiceUnavailable,
    DestinationUnavailable,
    StoreUnavailable,
    TemplateError,
    UnstorableValue,
)


def unavailable(code: str, *, answered: bool = False, seconds: int | None = None) -> BaseServiceUnavailable:
    asked = None if seconds is None else timedelta(seconds=seconds)
    return BaseServiceUnavailable(code, "no", answered=answered, retry_after=asked)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, CallResult.WORKED),
        (BaseServiceRejected("rejected", "the base service answered 400"), CallResult.WORKED),
        (UnstorableValue("too large an answer"), CallResult.WORKED),
        (unavailable("server_error", answered=True), CallResult.FAILED),
        (unavailable("rate_limited", answered=True), CallResult.FAILED),
        (unavailable("timeout"), CallResult.SILENT),
        (unavailable("connection_lost"), CallResult.SILENT),
        (unavailable("timeout", answered=True), CallResult.FAILED),
        (unavailable("connect_failed"), CallResult.UNREACHABLE),
        (unavailable("rate_limited", answered=True, seconds=0), CallResult.NOTHING),
        (unavailable("server_error", answered=True, seconds=9), CallResult.NOTHING),
        (unavailable("handler_error"), CallResult.NOTHING),
        (DestinationUnavailable("timeout", "one of many"), CallResult.NOTHING),
        (ValueError("a bug"), CallResult.NOTHING),
        (TemplateError("no such value"), CallResult.NOTHING),
        (StoreUnavailable("away"), CallResult.NOTHING),
    ],
)
def test_what_an_end_says_of_the_service(error: Exception | None, result: CallResult) -> None:
    assert result_of(error) is result
    assert result.failure == (result in {CallResult.FAILED, CallResult.SILENT, CallResult.UNREACHABLE})


def test_a_call_that_had_less_time_than_others_says_nothing_when_it_runs_out() -> None:
    assert result_of(unavailable("timeout"), cut_short=True) is CallResult.NOTHING
    assert result_of(unavailable("connect_failed"), cut_short=True) is CallResult.UNREACHABLE
    assert result_of(None, cut_short=True) is CallResult.WORKED
