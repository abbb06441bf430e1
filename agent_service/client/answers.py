"""Reading the answers of the API: a JSON object, or the error that a problem (RFC 9457) stands for."""

from datetime import UTC, datetime

import httpx2

from agent_service.client.json_fields import as_object, objects_of, text_of
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceRejected,
    BaseServiceUnavailable,
    FieldProblem,
    IdempotencyConflict,
    InvalidSubmission,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
)
from agent_service.domain.json_value import JsonObject
from agent_service.domain.retry_after import parse_retry_after

#: Refusals that have an error of their own, by code.
_REFUSALS = {
    "idempotency_key_reused": IdempotencyConflict,
    "request_already_ended": RequestAlreadyEnded,
    "request_not_ended": RequestNotEnded,
    "nothing_to_retry": NothingToRetry,
}
#: What says that the same call may go well later.
_PASSING = frozenset({408, 425, 429, 502, 503, 504})


def passes(status: int) -> bool:
    """Whether an answer of this status is worth another try."""
    return status in _PASSING


def read_object(answer: httpx2.Response) -> JsonObject:
    """The JSON object of an answer. Raises `BaseServiceRejected`."""
    found = _find_object(answer)
    if found is None:
        raise BaseServiceRejected(
            "unusable_answer", "the answer is no JSON object; is this an agent_service?"
        )
    return found


def explain(answer: httpx2.Response, *, request_id: str = "") -> AgentServiceError:
    """The error that an answer stands for, be it a problem or whatever a proxy sent; to be raised."""
    problem = _find_object(answer) or {}
    if answer.status_code == 404 and request_id:
        return RequestNotFound(request_id)
    retry_after = parse_retry_after(
        answer.headers.get("Retry-After"), now=datetime.now(UTC), date=answer.headers.get("Date")
    )
    error = explain_problem(problem, status=answer.status_code)
    if isinstance(error, BaseServiceUnavailable):
        error.retry_after = retry_after
    return error


def explain_problem(problem: JsonObject, *, status: int) -> AgentServiceError:
    """The error that a problem of this status stands for; to be raised."""
    code = text_of(problem, "code") or f"http_{status}"
    detail = text_of(problem, "detail") or text_of(problem, "title") or f"the API answered {status}"
    if code in _REFUSALS:
        return _REFUSALS[code](detail)
    if status in (400, 413, 415, 422):
        problems = [
            FieldProblem(pointer=text_of(error, "pointer"), detail=text_of(error, "detail"))
            for error in objects_of(problem, "errors")
        ]
        return InvalidSubmission(problems or [FieldProblem(pointer="", detail=detail)])
    if passes(status) or status >= 500:
        return BaseServiceUnavailable(code, detail, answered=True)
    return BaseServiceRejected(code, detail)


def _find_object(answer: httpx2.Response) -> JsonObject | None:
    try:
        return as_object(answer.json())
    except ValueError:
        return None
