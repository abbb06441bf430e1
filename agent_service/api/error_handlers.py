"""Which problem each error becomes; what is not named here is a 500, and the boundary's."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agent_service.api.problems import HttpProblem, Problem
from agent_service.domain.errors import (
    AgentServiceError,
    FieldProblem,
    IdempotencyConflict,
    InvalidSubmission,
    LimitExceeded,
    NotDurableYet,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
    StoreError,
    StoreUnavailable,
    UndecodableDocument,
    UnstorableValue,
    WriteOutcomeUnknown,
)
from agent_service.domain.events import InvalidCursor
from agent_service.domain.json_value import escape_pointer

_SOON = timedelta(seconds=1)
#: An election takes a few seconds.
_AFTER_AN_OUTAGE = timedelta(seconds=3)
_CONFLICTS: Mapping[type[AgentServiceError], str] = {
    RequestAlreadyEnded: "request_already_ended",
    RequestNotEnded: "request_not_ended",
    NothingToRetry: "nothing_to_retry",
}


def problem_of(error: Exception) -> Problem | None:
    """The problem that a caller is shown for an error; None if it is a fault of ours."""
    match error:
        case HttpProblem():
            return error.problem
        case InvalidSubmission() | IdempotencyConflict() | UnstorableValue():
            return _wrong_submission(error)
        case RequestNotFound():
            detail = "there is no request with this id"
            return Problem(status=HTTPStatus.NOT_FOUND, code="request_not_found", detail=detail)
        case RequestAlreadyEnded() | RequestNotEnded() | NothingToRetry():
            return Problem(status=HTTPStatus.CONFLICT, code=_CONFLICTS[type(error)], detail=str(error))
        case LimitExceeded():
            status, code = HTTPStatus.TOO_MANY_REQUESTS, "limit_exceeded"
            return Problem(status=status, code=code, detail=str(error), retry_after=error.retry_after)
        case InvalidCursor():
            return Problem(status=HTTPStatus.BAD_REQUEST, code="invalid_cursor", detail=str(error))
        case StoreError() | UndecodableDocument():
            return _store_trouble(error)
        case RequestValidationError():
            return _wrong_parameters(error)
        case HTTPException():
            status = HTTPStatus(error.status_code)
            return Problem(
                status=status, code=status.name.lower(), detail=str(error.detail), headers=error.headers or {}
            )
        case _:
            return None


def _wrong_submission(error: InvalidSubmission | IdempotencyConflict | UnstorableValue) -> Problem:
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    match error:
        case InvalidSubmission():
            detail = "the submission can never run as it is; each of `errors` names a place in it"
            return Problem(status=status, code="invalid_submission", detail=detail, errors=error.problems)
        case IdempotencyConflict():
            return Problem(status=status, code="idempotency_key_reused", detail=str(error))
        case UnstorableValue():
            return Problem(status=status, code="unstorable_value", detail=str(error))


def _store_trouble(error: StoreError | UndecodableDocument) -> Problem:
    """What the driver said stays in the log: it names hosts."""
    if isinstance(error, UndecodableDocument):
        detail = f"what is stored cannot be read: {error}; `agent-service doctor` names the document"
        return Problem(status=HTTPStatus.INTERNAL_SERVER_ERROR, code="undecodable_document", detail=detail)
    code, detail, retry_after = "store_unavailable", "MongoDB does not answer; try again", _AFTER_AN_OUTAGE
    match error:
        case NotDurableYet():
            code, detail, retry_after = "not_durable_yet", str(error), _SOON
        case WriteOutcomeUnknown():
            code = "outcome_unknown"
            detail = (
                "MongoDB did not confirm in time, so this may or may not have been stored; "
                "sent again with the same Idempotency-Key it is stored once"
            )
        case StoreUnavailable():
            pass
        case _:
            detail = "MongoDB refuses what this service asks of it, until its operator has mended that"
    return Problem(status=HTTPStatus.SERVICE_UNAVAILABLE, code=code, detail=detail, retry_after=retry_after)


def _wrong_parameters(error: RequestValidationError) -> Problem:
    errors = tuple(
        FieldProblem(
            pointer="".join(f"/{escape_pointer(str(part))}" for part in item["loc"]), detail=str(item["msg"])
        )
        for item in error.errors()
    )
    detail = "a parameter is wrong; each of `errors` names one"
    return Problem(
        status=HTTPStatus.UNPROCESSABLE_ENTITY, code="invalid_parameter", detail=detail, errors=errors
    )
