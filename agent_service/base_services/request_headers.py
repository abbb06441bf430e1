"""The headers of a call: who asks, for which attempt, and how long the answer may take."""

import re
from urllib.parse import quote

from agent_service.base_services.call import BaseServiceCall

#: Visible ASCII without the percent sign, which begins an encoded byte.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_IS_SAFE = re.compile(f"[{re.escape(_SAFE)}]*").fullmatch

_ALWAYS = {
    "Accept": "application/json, text/event-stream",
    # Only what can be decoded in bounded memory is asked for; everything else is refused.
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "User-Agent": "agent-service",
}


def encode_header(value: str) -> str:
    """`value` as visible ASCII: all else is percent-encoded UTF-8, which `urllib.parse.unquote` undoes."""
    return value if _IS_SAFE(value) else quote(value, safe=_SAFE, errors="replace")


def build_headers(
    call: BaseServiceCall, authorization: str | None, *, keep_connection: bool = True
) -> dict[str, str]:
    """All headers but Host and Content-Length, which the HTTP client adds."""
    headers = {
        **_ALWAYS,
        "X-Attempt": str(call.attempt),
        "X-Deadline-Seconds": f"{call.timeout.total_seconds():.3f}",
    }
    named = {
        "Idempotency-Key": call.idempotency_key,
        "X-Organization-Id": call.organization_id,
        "X-User-Id": call.user_id,
        "X-Correlation-Id": call.correlation_id,
        "traceparent": call.traceparent,
    }
    headers |= {name: encode_header(value) for name, value in named.items() if value is not None}
    if not keep_connection:
        headers["Connection"] = "close"
    if authorization is not None:
        headers["Authorization"] = authorization
    return headers
