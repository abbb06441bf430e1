"""What an error's own words say of it: the names and numbers by which services call what went wrong."""

import re
from collections.abc import Mapping

#: An answer that says so is refused for good, whatever its status.
_REFUSALS = {
    "context_length_exceeded": "context_length_exceeded",
    "exceed_context_size_error": "context_length_exceeded",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
}
#: Not every server has a name for it; all say it in much the same words.
_CONTEXT_TOO_SMALL = re.compile(
    r"\bcontext (length|window|size)\b|\bmaximum context\b|\bprompt is too long\b", re.IGNORECASE
)
_STATUSES = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "BadRequestError": 400,
    "invalid_request_error": 400,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 503,
    "unavailable_error": 503,
}
#: Where a name or a number may stand, the most telling one first.
_FIELDS = ("status", "code", "type")


def named_refusal(error: object) -> str | None:
    """Our code for a refusal that the error calls by a name we know: another try would end the same way."""
    return next((_REFUSALS[name] for name in _names(error) if name in _REFUSALS), None)


def refusal_code(status: int, error: object, message: str) -> str:
    """Our stable code for an answer of status 4xx that is not asked for again."""
    if named := named_refusal(error):
        return named
    if status in (400, 413, 422) and _CONTEXT_TOO_SMALL.search(message):
        return "context_length_exceeded"
    return {401: "unauthorized", 403: "forbidden"}.get(status, "rejected")


def named_status(error: object) -> int | None:
    """The HTTP status that an error says it has, as a number or by a name; None when it says nothing."""
    for name in _names(error):
        status = int(name) if len(name) == 3 and name.isascii() and name.isdigit() else _STATUSES.get(name, 0)
        if 400 <= status < 600:
            return status
    return None


def details_of(error: object) -> Mapping[object, object]:
    """The object with the details: the body of an answer has OpenAI's `error` in it, an event may be it."""
    if not isinstance(error, Mapping):
        return {}
    inner = error.get("error")
    return inner if isinstance(inner, Mapping) else error


def _names(error: object) -> list[str]:
    values = (details_of(error).get(field) for field in _FIELDS)
    return [str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool)]
