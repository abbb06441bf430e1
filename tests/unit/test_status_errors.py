"""Which answers may be asked for again."""

from datetime import timedelta

import pytest

from agent_service.base_services.status_errors import reported_error, status_error
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.json_value import JsonValue


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (408, "request_timeout"),
        (425, "too_early"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
        (599, "server_error"),
    ],
)
def test_another_try_may_help(status: int, code: str) -> None:
    error = status_error(status, "busy", timedelta(seconds=3))
    assert isinstance(error, BaseServiceUnavailable)
    assert (error.code, error.answered, error.retry_after) == (code, True, timedelta(seconds=3))
    assert error.message == f"the base service answered {status}: busy"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "rejected"), (401, "rejected"), (404, "rejected"), (422, "rejected"), (301, "redirect_refused")],
)
def test_another_try_would_end_the_same_way(status: int, code: str) -> None:
    error = status_error(status, "no", timedelta(seconds=3))
    assert isinstance(error, BaseServiceRejected)
    assert error.code == code


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"message": "overloaded"}, BaseServiceUnavailable, "server_error"),
        ("overloaded", BaseServiceUnavailable, "server_error"),
        ({"message": "slow down", "code": 429}, BaseServiceUnavailable, "rate_limited"),
        ({"detail": "too long", "status": 422}, BaseServiceRejected, "rejected"),
        ({"message": "bad", "code": "invalid_value", "retryable": False}, BaseServiceRejected, "rejected"),
        ({"message": "odd", "code": 7}, BaseServiceUnavailable, "server_error"),
    ],
)
def test_an_error_inside_an_answer_counts_by_what_it_says(error: JsonValue, kind: type, code: str) -> None:
    translated = reported_error(error)
    assert isinstance(translated, kind)
    assert translated.code == code
