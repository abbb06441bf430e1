"""Problem: every error that leaves the API, as RFC 9457 describes it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Scope

from agent_service.domain.errors import FieldProblem
from agent_service.domain.json_value import LONGEST_POINTER

PROBLEM_TYPE = "application/problem+json"
#: Where the boundary puts the X-Request-Id of a call.
SCOPE_KEY = "agent_service.http_request_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong with a call: `code` is stable and for programs, `detail` is for people."""

    status: HTTPStatus
    code: str
    detail: str
    errors: tuple[FieldProblem, ...] = ()
    errors_left_out: int = 0
    retry_after: timedelta | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemBody:
    """
    A problem as it is sent; `errors` only where fields can be named.

    `errors_left_out` says how many more there are where an answer holds no more of them.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    #: The X-Request-Id of the call, to be found in the log.
    request_id: str
    errors: tuple[FieldProblem, ...] = ()
    errors_left_out: int = 0


class HttpProblem(Exception):
    """Ends a call with a problem of its own; it never leaves the API."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.code}: {problem.detail}")


def refuse(
    status: HTTPStatus, code: str, detail: str, *, headers: Mapping[str, str] | None = None
) -> HttpProblem:
    """The exception that ends a call with this problem; to be raised."""
    return HttpProblem(Problem(status=status, code=code, detail=detail, headers=headers or {}))


def problem_response(problem: Problem, scope: Scope) -> Response:
    """The answer for a problem with the call of this scope; pure ASCII, whatever was sent to us."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.retry_after is not None:
        headers["Retry-After"] = retry_after_seconds(problem.retry_after)
    return Response(
        json.dumps(problem_body(problem, scope), separators=(",", ":")).encode(),
        status_code=problem.status,
        headers=headers,
        media_type=PROBLEM_TYPE,
    )


def retry_after_seconds(pause: timedelta) -> str:
    """The value of Retry-After: whole seconds, one at least."""
    return str(max(1, round(pause.total_seconds())))


def problem_body(problem: Problem, scope: Scope) -> dict[str, object]:
    """A problem with the call of this scope, or with a part of it, as it is sent."""
    body = asdict(
        ProblemBody(
            type="about:blank",
            title=problem.status.phrase,
            status=problem.status,
            detail=problem.detail,
            instance=quote(str(scope.get("path", "")), safe="/:"),
            code=problem.code,
            request_id=str(scope.get(SCOPE_KEY, "")),
            errors=tuple(_shortened(error) for error in problem.errors),
            errors_left_out=problem.errors_left_out,
        )
    )
    for name in ("errors", "errors_left_out"):
        if not body[name]:
            del body[name]
    return body


def _shortened(error: FieldProblem) -> FieldProblem:
    if len(error.pointer) <= LONGEST_POINTER:
        return error
    return FieldProblem(pointer=error.pointer[:LONGEST_POINTER] + "…", detail=error.detail)
