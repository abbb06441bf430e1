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
    [
        (400, "rejected"),
        (401, "unauthorized"),
        (402, "rejected"),
        (403, "forbidden"),
        (404, "rejected"),
        (422, "rejected"),
        (301, "redirect_refused"),
    ],
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
        ({"message": "slow down", "code": "429"}, BaseServiceUnavailable, "rate_limited"),
        ({"message": "slow down", "type": "rate_limit_exceeded"}, BaseServiceUnavailable, "rate_limited"),
        ({"message": "busy", "type": "overloaded_error"}, BaseServiceUnavailable, "server_error"),
        ({"message": "no", "code": "invalid_api_key"}, BaseServiceRejected, "unauthorized"),
        ({"error": {"message": "no", "type": "invalid_request_error"}}, BaseServiceRejected, "rejected"),
        ({"error": {"message": "no", "retryable": False}}, BaseServiceRejected, "rejected"),
        (
            {"message": "long", "code": "context_length_exceeded"},
            BaseServiceRejected,
            "context_length_exceeded",
        ),
        ({"message": "bad words", "type": "content_filter"}, BaseServiceRejected, "content_filter"),
        ([], BaseServiceUnavailable, "server_error"),
        (True, BaseServiceUnavailable, "server_error"),
    ],
)
def test_an_error_inside_an_answer_counts_by_what_it_says(error: JsonValue, kind: type, code: str) -> None:
    translated = reported_error(error)
    assert isinstance(translated, kind)
    assert translated.code == code


def test_the_same_refusal_has_the_same_code_whatever_the_server_calls_it() -> None:
    named: JsonValue = {"error": {"message": "too long", "code": "context_length_exceeded"}}
    llama: JsonValue = {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}
    unnamed: JsonValue = {"object": "error", "message": "This model's maximum context length is 9 tokens."}
    for body in (named, llama, unnamed):
        error = status_error(400, body)
        assert isinstance(error, BaseServiceRejected)
        assert error.code == "context_length_exceeded"
    assert status_error(413, "the prompt is too long").code == "context_length_exceeded"
    # A gateway's own 500 around it changes nothing; words alone, with such a status, prove nothing.
    assert status_error(500, named).code == "context_length_exceeded"
    assert status_error(500, unnamed).code == "server_error"
    filtered = {"error": {"message": "filtered", "code": "content_policy_violation"}}
    assert status_error(400, filtered).code == "content_filter"
