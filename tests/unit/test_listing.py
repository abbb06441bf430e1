"""Filters of lists, and the cursors that go with them."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent_service.domain.events import InvalidCursor
from agent_service.domain.listing import (
    MOST_METADATA_FIELDS,
    InvalidListCursor,
    RequestFilter,
    metadata_values,
    read_cursor,
    write_cursor,
)
from agent_service.domain.request import RequestStatus, new_request_id

A_FILTER = RequestFilter(
    statuses=frozenset({RequestStatus.FAILED}),
    service="analysis",
    metadata={"order": "4711"},
    created_after=datetime(2026, 1, 1, tzinfo=UTC),
    created_before=datetime(2026, 2, 1, tzinfo=UTC),
    user_id="ann",
    correlation_id="c",
)


@pytest.mark.parametrize("where", [RequestFilter(), A_FILTER])
@pytest.mark.parametrize("request_id", ["0199c2f4-6f3a-7c41-9d6e-2b1f0a8c5e77", "an-id-made-by-hand"])
def test_a_cursor_is_read_as_it_was_written(where: RequestFilter, request_id: str) -> None:
    text = write_cursor(request_id, where, "default")
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()
    assert read_cursor(text, where, "default") == request_id


def test_a_cursor_is_of_one_filter_however_it_is_written() -> None:
    there = timezone(timedelta(hours=2))
    same = RequestFilter(metadata={"a": "1", "b": "2"}, created_after=datetime(2026, 1, 1, 2, tzinfo=there))
    first = RequestFilter(metadata={"b": "2", "a": "1"}, created_after=datetime(2026, 1, 1, tzinfo=UTC))
    assert read_cursor(write_cursor("r", first, "default"), same, "default") == "r"


@pytest.mark.parametrize(
    ("where", "organization_id"), [(RequestFilter(), "theirs"), (A_FILTER, "ours"), (A_FILTER, "theirs")]
)
def test_a_cursor_of_another_list_is_refused(where: RequestFilter, organization_id: str) -> None:
    cursor = write_cursor(new_request_id(), RequestFilter(), "ours")
    with pytest.raises(InvalidListCursor, match="this list"):
        read_cursor(cursor, where, organization_id)


def test_a_text_that_is_no_cursor_is_refused() -> None:
    cursor = write_cursor(new_request_id(), RequestFilter(), "default")
    changed = base64.urlsafe_b64encode(base64.urlsafe_b64decode(cursor + "==")[:8] + b"other").decode()
    broken = ["", "?", "ä", "a", "AAAA", "@end", cursor[:-1], cursor + "A", changed, cursor + "=" * 9, "\x80"]
    for text in broken:
        with pytest.raises(InvalidCursor):
            read_cursor(text, RequestFilter(), "default")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("red", ("red",)),
        ("", ("",)),
        ("5", ("5", 5)),
        ("-0.5", ("-0.5", -0.5)),
        ("1e3", ("1e3", 1000.0)),
        ("true", ("true", True)),
        ("false", ("false", False)),
        ("007", ("007",)),
        ("1e999", ("1e999",)),
        ("9223372036854775807", ("9223372036854775807", 2**63 - 1)),
        ("9223372036854775808", ("9223372036854775808",)),
        ("NaN", ("NaN",)),
        ("٣", ("٣",)),
    ],
)
def test_a_text_is_every_plain_value_that_is_written_like_it(text: str, values: tuple[object, ...]) -> None:
    found = metadata_values(text)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize("name", ["", "$where", "a.b", "a\0", "x" * 256])
def test_a_name_that_the_database_would_understand_differently_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="field"):
        RequestFilter(metadata={name: "1"})


def test_a_filter_has_its_bounds() -> None:
    with pytest.raises(ValueError, match="at most"):
        RequestFilter(metadata={str(number): "1" for number in range(MOST_METADATA_FIELDS + 1)})
    with pytest.raises(ValueError, match="offset"):
        RequestFilter(created_after=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake that is refused


@pytest.mark.parametrize(
    ("wanted", "stored", "depends"),
    [
        (set(), set(RequestStatus), False),
        ({RequestStatus.FAILED}, {RequestStatus.FAILED}, False),
        ({RequestStatus.ACCEPTED}, {RequestStatus.ACCEPTED}, True),
        ({RequestStatus.RUNNING}, {RequestStatus.ACCEPTED, RequestStatus.RUNNING}, True),
        (
            {RequestStatus.ACCEPTED, RequestStatus.RUNNING},
            {RequestStatus.ACCEPTED, RequestStatus.RUNNING},
            False,
        ),
    ],
)
def test_what_runs_may_be_stored_as_accepted(
    wanted: set[RequestStatus], stored: set[RequestStatus], depends: bool
) -> None:
    where = RequestFilter(statuses=frozenset(wanted))
    assert where.stored_statuses == stored
    assert where.depends_on_contexts is depends
