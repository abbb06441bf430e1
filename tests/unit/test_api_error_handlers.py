import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agent_service.api.error_handlers import problem_of
from agent_service.api.problems import Problem
from agent_service.domain.errors import (
    FieldProblem,
    IdempotencyConflict,
    InvalidSubmission,
    LeaseLost,
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
from tests.support.api import assert_problem, calling, make_app, memory_store


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidSubmission([FieldProblem(pointer="/a", detail="no")]), 422, "invalid_submission"),
        (IdempotencyConflict("other body"), 422, "idempotency_key_reused"),
        (UnstorableValue("too large"), 422, "unstorable_value"),
        (RequestNotFound("x"), 404, "request_not_found"),
        (RequestAlreadyEnded("x"), 409, "request_already_ended"),
        (RequestNotEnded("x"), 409, "request_not_ended"),
        (NothingToRetry("x"), 409, "nothing_to_retry"),
        (InvalidCursor("no cursor"), 400, "invalid_cursor"),
        (NotDurableYet("soon"), 503, "not_durable_yet"),
        (StoreUnavailable("10.0.0.1:27017"), 503, "store_unavailable"),
        (WriteOutcomeUnknown("10.0.0.1:27017"), 503, "outcome_unknown"),
        (StoreError("10.0.0.1:27017"), 503, "store_unavailable"),
        (UndecodableDocument("steps", "a string", "an array"), 500, "undecodable_document"),
        (HTTPException(405, headers={"Allow": "GET"}), 405, "method_not_allowed"),
        (RequestValidationError([{"loc": ("query", "a/b"), "msg": "no"}]), 422, "invalid_parameter"),
    ],
)
def test_each_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code) == (status, code)
    assert "10.0.0.1" not in problem.detail
    assert (problem.retry_after is not None) == (status == 503)


def test_places_are_kept() -> None:
    errors = (FieldProblem(pointer="/a", detail="no"),)
    invalid = problem_of(InvalidSubmission(errors))
    assert invalid is not None
    assert invalid.errors == errors
    parameter = problem_of(RequestValidationError([{"loc": ("query", "a/b"), "msg": "no"}]))
    assert parameter is not None
    assert parameter.errors == (FieldProblem(pointer="/query/a~1b", detail="no"),)


@pytest.mark.parametrize("error", [LeaseLost("x"), ValueError("x")])
def test_a_fault_of_ours_is_no_problem_of_the_caller(error: Exception) -> None:
    assert problem_of(error) is None


async def test_what_the_framework_refuses_is_a_problem_too() -> None:
    async with calling(make_app(memory_store())) as api:
        assert_problem(await api.get("/nothing/here"), 404, "not_found")
        assert_problem(await api.get("/v1/requests/"), 404, "not_found")
        refused = await api.delete("/v1/requests/abc")
        assert_problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == "GET"
        # Of a path with several routes, those of all of them.
        assert (await api.put("/v1/requests")).headers["allow"] == "GET, POST"
        assert_problem(await api.get("/redoc"), 404, "not_found")
