"""Preferences: the header Prefer (RFC 7240), of which `wait` is known here and no other one."""

import re
from datetime import timedelta

from starlette.datastructures import Headers

HEADER = "Prefer"
APPLIED = "Preference-Applied"
#: Who would wait longer is answered after this long.
LONGEST_WAIT = timedelta(minutes=1)

#: One preference of a list; a comma in a quoted string separates nothing. A string without an end goes on to
#: the end of the header: were it no match, each quotation mark would be looked at with all that follows it.
_PREFERENCE = re.compile(r'(?:[^,"]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECONDS = re.compile(r'\s*=\s*(?:"([0-9]{1,18})"|([0-9]{1,18}))\s*(?:;.*)?', re.DOTALL)


def read_wait(headers: Headers) -> timedelta | None:
    """
    How long a caller would wait for an end, `LONGEST_WAIT` at most; None if it says nothing that can be read.

    A preference is never a reason to refuse a call, and of several of one name the first one counts.
    """
    for value in headers.getlist(HEADER):
        for preference in _PREFERENCE.findall(value):
            text = preference.strip()
            name = _NAME.match(text)
            if name is not None and name[0].lower() == "wait":
                seconds = _SECONDS.fullmatch(text, name.end())
                if seconds is None or not int(seconds[1] or seconds[2]):
                    return None
                return timedelta(seconds=min(int(seconds[1] or seconds[2]), LONGEST_WAIT.total_seconds()))
    return None


def applied_wait(wait: timedelta) -> dict[str, str]:
    """The header that says that a caller was given this long."""
    return {APPLIED: f"wait={int(wait.total_seconds())}"}
