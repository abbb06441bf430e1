"""What an answer of the API stands for."""

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceRejected,
    BaseServiceUnavailable,
    IdempotencyConflict,
    InvalidSubmission,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
)
from tests.support.scripted_api import IMPATIENT, answering


@pytest.mark.parametrize(
    ("status", "problem", "kind"),
    [
        (404, {"code": "request_not_found"}, RequestNotFound),
        (422, {"code": "idempotency_key_reused", "detail": "d"}, IdempotencyConflict),
        (409, {"code": "request_already_ended", "detail": "d"}, RequestAlreadyEnded),
        (422, {"errors": [{"pointer": "/steps/0", "detail": "d"}]}, InvalidSubmission),
        (409, {"code": "request_not_ended"}, RequestNotEnded),
        (409, {"code": "nothing_to_retry"}, NothingToRetry),
        (413, {"detail": "too large"}, InvalidSubmission),
        (503, {"code": "unavailable"}, BaseServiceUnavailable),
        (500, {"code": "internal_error"}, BaseServiceUnavailable),
        (429, {}, BaseServiceUnavailable),
        (403, {}, BaseServiceRejected),
    ],
)
async def test_a_problem_becomes_the_error_that_it_stands_for(
    status: int, problem: dict[str, object], kind: type[AgentServiceError]
) -> None:
    async with answering(lambda _: JSONResponse(problem, status), **IMPATIENT) as client:
        with pytest.raises(kind) as raised:
            await client.get("r1")
    if isinstance(raised.value, InvalidSubmission) and "errors" in problem:
        assert raised.value.problems[0].pointer == "/steps/0"


async def test_an_error_says_code_and_detail_of_its_problem() -> None:
    problem = {"code": "forbidden", "detail": "this key may only read", "errors": "none"}
    async with answering(lambda _: JSONResponse(problem, 403)) as client:
        with pytest.raises(BaseServiceRejected, match="forbidden: this key may only read") as raised:
            await client.get("r1")
    assert (raised.value.code, raised.value.message) == ("forbidden", "this key may only read")


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", ""])
async def test_an_answer_that_is_no_object_is_refused(body: str) -> None:
    async with answering(lambda _: PlainTextResponse(body)) as client:
        with pytest.raises(BaseServiceRejected, match="no JSON object"):
            await client.get("r1")


async def test_what_a_proxy_sends_is_told_by_its_status() -> None:
    async with answering(lambda _: PlainTextResponse("<html>", 502), **IMPATIENT) as client:
        with pytest.raises(BaseServiceUnavailable, match="http_502: the API answered 502"):
            await client.get("r1")
