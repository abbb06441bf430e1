"""On whose behalf a call comes: the one place that knows, so that API keys have where to go."""

import re
from http import HTTPStatus

from fastapi import Request as HttpRequest

from agent_service.api.problems import refuse
from agent_service.domain.request import DEFAULT_ORGANIZATION, Caller

USER_ID = "X-User-Id"
CORRELATION_ID = "X-Correlation-Id"
TRACEPARENT = "traceparent"

LONGEST_IDENTIFIER = 255
#: W3C Trace Context: version, trace id, parent id, flags; later versions may add more.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


async def caller_of(call: HttpRequest) -> Caller:
    """
    The caller of an HTTP call; without keys every call is of the default organization.

    Raises HttpProblem (400) for an id that is too long or not plain text.
    """
    return Caller(
        organization_id=DEFAULT_ORGANIZATION,
        user_id=_identifier(call, USER_ID),
        correlation_id=_identifier(call, CORRELATION_ID),
        traceparent=_traceparent(call),
    )


def _identifier(call: HttpRequest, name: str) -> str | None:
    values = call.headers.getlist(name)
    if not values or values == [""]:
        return None
    # Headers are bytes that Starlette reads as Latin-1; what people send beyond ASCII is UTF-8.
    try:
        text = values[0].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if len(values) == 1 and text.isprintable() and 0 < len(text) <= LONGEST_IDENTIFIER:
        return text
    detail = f"{name} must be given once, as 1 to {LONGEST_IDENTIFIER} printable characters in UTF-8"
    raise refuse(HTTPStatus.BAD_REQUEST, "invalid_header", detail)


def _traceparent(call: HttpRequest) -> str | None:
    """A trace that cannot be read is started anew and never a reason to refuse a call, as W3C asks."""
    values = call.headers.getlist(TRACEPARENT)
    if len(values) == 1 and _TRACEPARENT.fullmatch(values[0]):
        return values[0]
    return None
