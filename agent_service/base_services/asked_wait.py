"""How long a base service asks to be left alone: Retry-After, and what the big providers send beside it."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from agent_service.domain.retry_after import LONGEST, parse_retry_after

#: What OpenAI limits, each with a header of what remains and one of when it is whole again.
_LIMITED = ("requests", "tokens")
_MILLISECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")
#: In seconds.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def asked_wait(status: int, headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """
    The wait that an answer of this status asks for; None when it asks for none that can be read.

    `retry-after-ms` goes before Retry-After, which it makes more precise. Only an answer 429 without either
    is looked at for the `x-ratelimit-…` headers, and only the limits of which nothing remains count.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _MILLISECONDS.fullmatch(milliseconds):
        return _at_most(float(milliseconds) / 1000)
    said = parse_retry_after(headers.get("retry-after"), now=now, date=headers.get("date"))
    if said is not None or status != 429:
        return said
    used_up = [what for what in _LIMITED if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"]
    waits = [_parse_duration(headers.get(f"x-ratelimit-reset-{what}", "").strip()) for what in used_up]
    return max((wait for wait in waits if wait is not None), default=None)


def _parse_duration(text: str) -> timedelta | None:
    """A duration as `1h2m3.5s` or `120ms`; None for anything else."""
    if not _DURATION.fullmatch(text):
        return None
    return _at_most(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def _at_most(seconds: float) -> timedelta:
    """So many seconds, or the longest wait: who asks for more, or for a number that is none, has that."""
    return timedelta(seconds=min(seconds, LONGEST.total_seconds()))
