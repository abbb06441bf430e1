"""How long a service asks to be left alone, in the headers of several providers."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_service.base_services.asked_wait import asked_wait

NOW = datetime(2040, 1, 1, tzinfo=UTC)
#: The requests are used up, tokens are left.
LIMITS = {
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m2.5s",
    "x-ratelimit-remaining-tokens": "17",
    "x-ratelimit-reset-tokens": "3h",
}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Sun, 01 Jan 2040 00:01:00 GMT"}, 60),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7),
        ({"retry-after": "7", **LIMITS}, 7),
        (LIMITS, 62.5),
        (LIMITS | {"x-ratelimit-remaining-tokens": "0"}, 10_800),
        (LIMITS | {"x-ratelimit-reset-requests": "120ms"}, 0.12),
        (LIMITS | {"x-ratelimit-reset-requests": "1767225600"}, None),
        (LIMITS | {"x-ratelimit-reset-requests": "9" * 400 + "h"}, 365 * 86_400),
        (LIMITS | {"x-ratelimit-reset-requests": "999999999h" * 100}, 365 * 86_400),
        ({"retry-after-ms": "9" * 400}, 365 * 86_400),
        (LIMITS | {"x-ratelimit-reset-requests": "5s or so"}, None),
        (LIMITS | {"x-ratelimit-remaining-requests": "1"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
    ],
)
def test_what_is_said_most_exactly_counts(headers: dict[str, str], seconds: float | None) -> None:
    wait = None if seconds is None else timedelta(seconds=seconds)
    assert asked_wait(429, headers, now=NOW) == wait


def test_limits_say_nothing_of_an_answer_that_was_not_refused_for_them() -> None:
    assert asked_wait(503, LIMITS, now=NOW) is None
    assert asked_wait(503, {"retry-after-ms": "250"}, now=NOW) == timedelta(milliseconds=250)
