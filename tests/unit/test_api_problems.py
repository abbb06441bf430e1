import json
from datetime import timedelta
from http import HTTPStatus

import pytest
from starlette.types import Scope

from agent_service.api.problems import SCOPE_KEY, Problem, problem_response
from agent_service.domain.errors import FieldProblem

SCOPE: Scope = {"type": "http", "path": "/v1/ä\n", SCOPE_KEY: "call-1"}


def test_a_problem_has_the_members_of_rfc_9457_and_ours() -> None:
    problem = Problem(status=HTTPStatus.NOT_FOUND, code="gone", detail="it is gone", headers={"Allow": "GET"})
    response = problem_response(problem, SCOPE)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.headers["allow"], response.headers["cache-control"]) == ("GET", "no-store")
    assert "retry-after" not in response.headers
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "it is gone",
        "instance": "/v1/%C3%A4%0A",
        "code": "gone",
        "request_id": "call-1",
    }


@pytest.mark.parametrize(("seconds", "sent"), [(0.2, "1"), (1, "1"), (2.6, "3")])
def test_retry_after_is_in_whole_seconds_and_never_none(seconds: float, sent: str) -> None:
    problem = Problem(
        status=HTTPStatus.SERVICE_UNAVAILABLE, code="c", detail="d", retry_after=timedelta(seconds=seconds)
    )
    assert problem_response(problem, SCOPE).headers["retry-after"] == sent


def test_what_was_sent_is_repeated_in_ascii_and_not_at_any_length() -> None:
    errors = (
        FieldProblem(pointer="/\ud800\u2028", detail="wrong"),
        FieldProblem(pointer="/" + "k" * 100_000, detail="wrong"),
    )
    problem = Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code="c", detail="d", errors=errors)
    body = bytes(problem_response(problem, SCOPE).body)
    assert body.isascii()
    assert len(body) < 2000
    assert json.loads(body)["errors"][0] == {"pointer": "/\ud800\u2028", "detail": "wrong"}
