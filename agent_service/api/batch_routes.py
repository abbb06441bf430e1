"""The route of batches: many submissions in one call, each taken or refused by itself."""

import json
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from loguru import logger
from starlette.responses import Response
from starlette.types import Scope

from agent_service.api.batch_problems import bounded
from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Submitter
from agent_service.api.error_handlers import problem_of
from agent_service.api.idempotency_key import HEADER, LONGEST_OF_BATCH, batch_key, read_idempotency_key
from agent_service.api.json_request import BodyLimit, decode_json, read_body
from agent_service.api.openapi_document import answers
from agent_service.api.openapi_examples import PROBLEM_EXAMPLES
from agent_service.api.openapi_parameters import batch_extra
from agent_service.api.problems import Problem, problem_body, refuse, retry_after_seconds
from agent_service.api.submission_schema import LARGEST_BATCH
from agent_service.domain.errors import (
    AgentServiceError,
    FieldProblem,
    InvalidSubmission,
    LimitExceeded,
    StoreError,
    StoreUnavailable,
    WriteOutcomeUnknown,
)
from agent_service.domain.json_value import JsonObject, escape_pointer
from agent_service.domain.planning import MAX_PROBLEMS
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted

_NONE_TAKEN: JsonObject = {"results": [{"problem": PROBLEM_EXAMPLES["invalid_submission"]}]}
#: A place in one of the submissions, as a JSON Pointer from the root of the body.
_PLACE = re.compile(r"/requests/(?P<index>[0-9]+)(?P<pointer>/.*)", re.DOTALL)

Result = Accepted | AgentServiceError


def batch_routes(requests: RequestService, calls: BoundedCalls, *, body_limit: BodyLimit) -> APIRouter:
    """`POST /v1/requests:batch`."""
    router = APIRouter(tags=["requests"])

    @router.post(
        "/v1/requests:batch",
        operation_id="submit_requests",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses={
            **answers(
                HTTPStatus.ACCEPTED,
                "At least one was taken, and stored durably.",
                "BatchAnswer",
                headers=["Idempotency-Replayed"],
            ),
            **answers(
                HTTPStatus.OK, "None was taken; each result says why.", "BatchAnswer", example=_NONE_TAKEN
            ),
        },
        openapi_extra=batch_extra(),
    )
    async def submit_requests(call: HttpRequest, caller: Submitter) -> Response:
        """Take many requests; with an Idempotency-Key the batch can be sent any number of times."""
        key = _read_key(call)
        submissions, refused = _read_submissions(await read_body(call, limit=body_limit))
        chosen = [index for index in range(len(submissions)) if index not in refused]
        submitting = requests.submit_many(
            [submissions[index] for index in chosen],
            caller=caller,
            idempotency_keys=None if key is None else [batch_key(key, index) for index in chosen],
        )
        late = WriteOutcomeUnknown("storing a batch of requests took longer than its caller can wait")
        taken = dict(zip(chosen, await calls.wait_for(submitting, late=late), strict=True))
        return _answer([(taken | refused)[index] for index in range(len(submissions))], call.scope)

    return router


def _read_key(call: HttpRequest) -> str | None:
    key = read_idempotency_key(call.headers)
    if key is not None and len(key) > LONGEST_OF_BATCH:
        detail = f"the {HEADER} of a batch must have at most {LONGEST_OF_BATCH} characters"
        raise refuse(HTTPStatus.BAD_REQUEST, "invalid_idempotency_key", detail)
    return key


def _read_submissions(body: bytes) -> tuple[list[object], dict[int, Result]]:
    """
    The submissions of a body, and which of them are refused because an object in them has a name twice.

    Raises HttpProblem or InvalidSubmission for what is wrong with the body around them.
    """
    decoded, repetitions = decode_json(body)
    if not isinstance(decoded, dict):
        raise _wrong("", 'must be an object with "requests", a list of submissions')
    for name in decoded:
        if name != "requests":
            raise _wrong(f"/{escape_pointer(name)}", 'there is no such field; there is only "requests"')
    submissions = decoded.get("requests")
    if not isinstance(submissions, list) or not 0 < len(submissions) <= LARGEST_BATCH:
        raise _wrong("/requests", f"must be a list of 1 to {LARGEST_BATCH} submissions")
    return submissions, _refused(repetitions)


def _refused(repetitions: Iterable[FieldProblem]) -> dict[int, Result]:
    found: dict[int, list[FieldProblem]] = {}
    for problem in repetitions:
        place = _PLACE.fullmatch(problem.pointer)
        if place is None:
            raise InvalidSubmission([problem])
        problems = found.setdefault(int(place["index"]), [])
        if len(problems) < MAX_PROBLEMS:
            problems.append(FieldProblem(pointer=place["pointer"], detail=problem.detail))
    return {index: InvalidSubmission(problems) for index, problems in found.items()}


def _wrong(pointer: str, detail: str) -> InvalidSubmission:
    return InvalidSubmission([FieldProblem(pointer=pointer, detail=detail)])


def _answer(results: Sequence[Result], scope: Scope) -> Response:
    """
    The results, in the order of the submissions.

    Where nothing was taken and MongoDB is the reason, or the limits of the organization for each of them, the
    whole call failed: that error is raised.
    """
    accepted = [result for result in results if isinstance(result, Accepted)]
    troubles = [result for result in results if isinstance(result, StoreError)]
    if troubles:
        worst = min(troubles, key=_severity)
        if not accepted:
            raise worst
        logger.warning(
            "{} of {} requests of a batch were not confirmed: {}", len(troubles), len(results), worst
        )
    headers = {"Cache-Control": "no-store"}
    limited = [result for result in results if isinstance(result, LimitExceeded)]
    if limited:
        if len(limited) == len(results):
            raise limited[0]
        headers["Retry-After"] = retry_after_seconds(limited[0].retry_after)
    if accepted and all(result.replayed for result in accepted):
        headers["Idempotency-Replayed"] = "true"
    return Response(
        json.dumps({"results": _shown(results, scope)}, separators=(",", ":")),
        status_code=HTTPStatus.ACCEPTED if accepted else HTTPStatus.OK,
        headers=headers,
        media_type="application/json",
    )


def _shown(results: Sequence[Result], scope: Scope) -> list[dict[str, object]]:
    refused = [_problem(result) for result in results if not isinstance(result, Accepted)]
    problems = iter(bounded(refused))
    return [
        {"id": result.request.id}
        if isinstance(result, Accepted)
        else {"problem": problem_body(next(problems), scope)}
        for result in results
    ]


def _problem(error: AgentServiceError) -> Problem:
    problem = problem_of(error)
    if problem is None:
        raise error
    return problem


def _severity(error: StoreError) -> int:
    """0 is the worst: that nothing was written may be said only if it is true of all."""
    match error:
        case WriteOutcomeUnknown():
            return 0
        case StoreUnavailable():
            return 1
        case _:
            return 2
