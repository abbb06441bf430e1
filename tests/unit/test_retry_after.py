"""Retry-After in both forms."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain.retry_after import LONGEST, parse_retry_after

NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
        ("Sun Nov  6 08:50:07 1994", 30),
        ("Sun, 06 Nov 1994 10:50:07 +0200", 30),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
    ],
)
def test_both_forms_are_read(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1e3", "٣", "²", "Sun, 99 Foo 1994", "nan", "1,5"])
def test_what_cannot_be_read_is_none(value: str | None) -> None:
    assert parse_retry_after(value, now=NOW) is None


@pytest.mark.parametrize("value", ["9" * 30, "9" * 6000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_wait_is_cut(value: str) -> None:
    assert parse_retry_after(value, now=NOW) == LONGEST


def test_a_point_in_time_is_measured_by_the_clock_that_made_it() -> None:
    date, later = "Sun, 06 Nov 2094 08:00:00 GMT", "Sun, 06 Nov 2094 08:00:10 GMT"
    assert parse_retry_after(later, now=NOW, date=date) == timedelta(seconds=10)
    assert parse_retry_after("5", now=NOW, date="nonsense") == timedelta(seconds=5)
