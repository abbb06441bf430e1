"""What an answer that is no success means: whether another try may help, and after how long."""

from datetime import timedelta

from agent_service.base_services.error_codes import details_of, named_refusal, named_status, refusal_code
from agent_service.base_services.error_message import message_of
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected, BaseServiceUnavailable

_RETRYABLE = {408: "request_timeout", 425: "too_early", 429: "rate_limited"}


def status_error(status: int, body: object, retry_after: timedelta | None = None) -> BaseServiceError:
    """The error for an HTTP status outside 2xx; `body` is what the service says of it, text or JSON."""
    message = message_of(body)
    said = f"the base service answered {status}" + (f": {message}" if message else "")
    if status >= 400 and (refused := named_refusal(body)):
        return BaseServiceRejected(refused, said)
    if status in _RETRYABLE or status >= 500:
        code = _RETRYABLE.get(status, "server_error")
        return BaseServiceUnavailable(code, said, retry_after=retry_after, answered=True)
    if 300 <= status < 400:
        return BaseServiceRejected(
            "redirect_refused", f"the base service answered {status}, a redirect, which is never followed"
        )
    if status >= 400:
        return BaseServiceRejected(refusal_code(status, body, message), said)
    return BaseServiceUnavailable("invalid_answer", said, answered=True)


def reported_error(error: object) -> BaseServiceError:
    """
    The error for an `error` member inside an answer of status 200, streamed or not.

    A status in it, as a number or by a name that is widely used, counts like an HTTP status;
    `retryable: false` says that another try would end the same way; otherwise the service is taken to have
    failed for now.
    """
    status = named_status(error)
    if status is not None:
        return status_error(status, error)
    message = message_of(error)
    said = "the base service reported an error" + (f": {message}" if message else "")
    refused = named_refusal(error)
    if refused or details_of(error).get("retryable") is False:
        return BaseServiceRejected(refused or "rejected", said)
    return BaseServiceUnavailable("server_error", said, answered=True)
