"""The header Idempotency-Key: quoted, as the IETF draft says, or bare, as most clients send it."""

import re
from http import HTTPStatus

from starlette.datastructures import Headers

from agent_service.api.problems import refuse
from agent_service.api.submission_schema import LARGEST_BATCH

HEADER = "Idempotency-Key"
LONGEST_KEY = 255
#: What is put behind the key of a batch is a slash and the number of a submission.
LONGEST_OF_BATCH = LONGEST_KEY - len(f"/{LARGEST_BATCH - 1}")
#: A string of RFC 8941: backslash escapes itself and the quote, and nothing else.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_OF_BATCH = re.compile(r"/[0-9]+\Z")
_KEY = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")


def single_key(key: str | None) -> str | None:
    """
    The key under which a single submission is stored.

    One that looks like that of a submission of a batch gets a blank at its end, which no header can send.
    """
    return f"{key} " if key is not None and _OF_BATCH.search(key) else key


def batch_key(key: str, place: int) -> str:
    """The key under which a submission of a batch is stored, by its place in it."""
    return f"{key}/{place}"


def pattern(longest: int = LONGEST_KEY) -> str:
    """The header as a regular expression that every client understands; `longest` counts without quotes."""
    bare = rf"[!#-~][!-~]{{0,{longest - 1}}}"
    quoted = rf'"(?:[!#-\[\]-~]|\\["\\]){{1,{longest}}}"'
    return rf"^(?:{bare}|{quoted})$"


def read_idempotency_key(headers: Headers) -> str | None:
    """
    The key of a call, None if it has none; quoted or bare, it is the same key.

    Raises HttpProblem (400) for anything but one key of 1 to 255 visible ASCII characters.
    """
    values = headers.getlist(HEADER)
    if not values:
        return None
    key = values[0]
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(values) == 1 and _KEY.fullmatch(key):
        return key
    detail = (
        f"{HEADER} must be given once, as 1 to {LONGEST_KEY} visible ASCII characters, "
        'bare or as a string in double quotes, such as "order-4711"'
    )
    raise refuse(HTTPStatus.BAD_REQUEST, "invalid_idempotency_key", detail)
