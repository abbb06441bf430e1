"""What an answer that is no success means: whether another try may help, and after how long."""

from collections.abc import Mapping
from datetime import timedelta

from agent_service.base_services.error_message import message_of
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.json_value import JsonValue

_RETRYABLE = {408: "request_timeout", 425: "too_early", 429: "rate_limited"}


def status_error(status: int, message: str, retry_after: timedelta | None = None) -> BaseServiceError:
    """The error for an HTTP status outside 2xx; `message` is the service's own, already cleaned."""
    said = f"the base service answered {status}" + (f": {message}" if message else "")
    if status in _RETRYABLE or status >= 500:
        code = _RETRYABLE.get(status, "server_error")
        return BaseServiceUnavailable(code, said, retry_after=retry_after, answered=True)
    if 300 <= status < 400:
        return BaseServiceRejected(
            "redirect_refused", f"the base service answered {status}, a redirect, which is never followed"
        )
    if status >= 400:
        return BaseServiceRejected("rejected", said)
    return BaseServiceUnavailable("invalid_answer", said, answered=True)


def reported_error(error: JsonValue) -> BaseServiceError:
    """
    The error for an `error` member inside an answer of status 200, streamed or not.

    A `status` or numeric `code` in it counts like an HTTP status; `retryable: false` says that another
    try would end the same way; otherwise the service is taken to have failed for now.
    """
    message = message_of(error)
    details: Mapping[str, JsonValue] = error if isinstance(error, Mapping) else {}
    for status in (details.get("status"), details.get("code")):
        if isinstance(status, int) and 400 <= status < 600:
            return status_error(status, message)
    said = "the base service reported an error" + (f": {message}" if message else "")
    if details.get("retryable") is False:
        return BaseServiceRejected("rejected", said)
    return BaseServiceUnavailable("server_error", said, answered=True)
