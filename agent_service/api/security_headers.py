"""The headers that keep a browser from making anything of an answer but data; every answer has them."""

from starlette.types import Message

#: An answer that says something else of one of these itself is left as it is.
SECURITY_HEADERS = {
    # Answers differ by caller, and no cache on the way knows whose they are.
    "Cache-Control": "no-store",
    # Nothing in an answer is loaded, run or framed, whatever a user had stored in it.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RAW = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items())


def add_security_headers(start: Message) -> None:
    """Add those that are missing to the head of an answer, an ASGI `http.response.start`."""
    headers = list(start.get("headers", ()))
    present = {name.lower() for name, _ in headers}
    start["headers"] = headers + [header for header in _RAW if header[0] not in present]
