"""Retry-After (RFC 9110, section 10.2.3) in both its forms, as a duration."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: A longer wait is cut to this, so that arithmetic with it cannot overflow.
LONGEST = timedelta(days=365)
#: No date is longer, with room for comments.
_LONGEST_DATE = 100

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def parse_retry_after(value: str | None, *, now: datetime, date: str | None = None) -> timedelta | None:
    """
    How long to wait, never negative; None when the header is missing or cannot be read.

    A point in time is compared with the answer's own `Date` header when there is one, because it was
    made with that clock, else with `now` (aware).
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=min(float(text), LONGEST.total_seconds()))
    until = _parse_date(text)
    if until is None:
        return None
    return min(max(until - (_parse_date(date) or now), timedelta()), LONGEST)


def _parse_date(value: str | None) -> datetime | None:
    if value is None or len(value) > _LONGEST_DATE:
        return None
    try:
        parsed = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # The obsolete asctime form names no zone; RFC 9110 says that it is UTC.
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
