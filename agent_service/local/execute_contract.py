"""The contract `execute` as the local base services serve it: its envelope, its errors as problem+json."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.exceptions import HTTPException

from agent_service.domain.json_value import escape_pointer, find_unstorable

PROBLEM_TYPE = "application/problem+json"


class ExecuteEnvelope(BaseModel):
    """What agent_service sends with every input: which attempt of which step it is for."""

    model_config = ConfigDict(extra="ignore")

    context_id: str = Field(description="the id of the step's context, the same over all attempts")
    request_id: str
    step: str
    attempt: int = Field(ge=1)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class StrictInput(BaseModel):
    """The base of inputs: an unknown field is an error, because it is most often a misspelled one."""

    model_config = ConfigDict(extra="forbid")


class FieldError(BaseModel):
    """One wrong place in the body: a JSON Pointer (RFC 6901) and what would be right."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="stable, for programs")
    detail: str = Field(description="for people")
    errors: list[FieldError] = Field(default_factory=list)


class ExecuteProblem(Exception):
    """Ends a call with a problem; it never leaves the service."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        pointer: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.retry_after = retry_after
        super().__init__(f"{code}: {detail}")


#: For the OpenAPI document: what `POST /execute` may answer besides 200.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, text in (
        (422, "The input is wrong; `errors` points at the fields. Another try would end the same way."),
        (503, "Another try may help, after `Retry-After` seconds if that is given."),
    )
}


def check_json(value: object, pointer: str) -> None:
    """Raise ExecuteProblem when `value` is no plain JSON (NaN, lone surrogates, integers over 64 bits)."""
    for problem in find_unstorable(value, pointer):
        raise ExecuteProblem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", problem.detail, pointer=problem.pointer
        )


def install_problems(app: FastAPI, *, discriminator: str, known: Sequence[str]) -> None:
    """Answer every error of `app` as a problem; `known` are the values of the field that selects an input."""

    async def on_problem(_: Request, problem: Exception) -> JSONResponse:
        if not isinstance(problem, ExecuteProblem):
            raise problem
        detail, errors = problem.detail, []
        if problem.pointer is not None:
            errors = [FieldError(pointer=_readable(problem.pointer), detail=detail)]
            detail = f"{problem.pointer}: {detail}"
        headers = {}
        if problem.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(problem.retry_after.total_seconds())))
        return _respond(problem.status, problem.code, detail, errors, headers)

    async def on_invalid(_: Request, invalid: Exception) -> JSONResponse:
        if not isinstance(invalid, RequestValidationError):
            raise invalid
        errors = [_field_error(error, discriminator, known) for error in invalid.errors()]
        detail = "; ".join(f"{error.pointer or '(body)'}: {error.detail}" for error in errors)
        return _respond(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", detail, errors)

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        status = HTTPStatus(error.status_code)
        return _respond(status, status.name.lower(), str(error.detail), [], error.headers)

    app.add_exception_handler(ExecuteProblem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def _field_error(error: Mapping[str, Any], discriminator: str, known: Sequence[str]) -> FieldError:
    location = [part for part in error["loc"] if part != "body"]
    if error["type"] == "json_invalid":
        return FieldError(pointer="", detail=f"the body is no JSON: {error['ctx']['error']}")
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        location.append(discriminator)
        return FieldError(pointer=_pointer(location), detail=f"must be one of: {', '.join(known)}")
    # Inside a chosen input the location names the choice, which is no part of the body.
    if len(location) > 1 and location[0] == "input" and location[1] in known:
        del location[1]
    return FieldError(pointer=_pointer(location), detail=str(error["msg"]).removeprefix("Value error, "))


def _pointer(location: Sequence[object]) -> str:
    return _readable("".join("/" + escape_pointer(str(part)) for part in location))


def _readable(text: str) -> str:
    """What was sent may stand in an answer, lone surrogates included, which have no encoding."""
    return text.encode(errors="replace").decode()


def _respond(
    status: HTTPStatus,
    code: str,
    detail: str,
    errors: list[FieldError],
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(title=status.phrase, status=status, code=code, detail=_readable(detail), errors=errors)
    return JSONResponse(
        problem.model_dump(), status_code=status, headers=dict(headers or {}), media_type=PROBLEM_TYPE
    )
