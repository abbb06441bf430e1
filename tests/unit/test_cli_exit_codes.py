"""Exit codes of commands."""

import pytest

from agent_service.cli.exit_codes import exit_code_of
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceRejected,
    BaseServiceUnavailable,
    ConfigurationError,
    FieldProblem,
    IdempotencyConflict,
    InvalidSubmission,
    LocalPartUnavailable,
    NotCompleted,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
    StillRunning,
    StoreError,
    StoreUnavailable,
    WorkerProcessFailed,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (InvalidSubmission([FieldProblem(pointer="", detail="x")]), 2),
        (RequestNotFound("x"), 3),
        (IdempotencyConflict("x"), 4),
        (RequestAlreadyEnded("x"), 4),
        (RequestNotEnded("x"), 4),
        (NothingToRetry("x"), 4),
        (BaseServiceUnavailable("c", "x"), 75),
        (StillRunning("x"), 75),
        (StoreUnavailable("x"), 75),
        (BaseServiceRejected("c", "x"), 1),
        (StoreError("x"), 1),
        (NotCompleted("r1", status="failed"), 1),
        (LocalPartUnavailable("x"), 1),
        (WorkerProcessFailed("x", exit_code=137), 137),
    ],
)
def test_an_error_has_the_exit_code_that_scripts_rely_on(error: AgentServiceError, code: int) -> None:
    assert exit_code_of(error) == code
