"""The routes of what can be done to a request that was taken: cancelling it, and retrying it."""

from http import HTTPStatus
from itertools import islice

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Canceller, Submitter
from agent_service.api.idempotency_key import read_idempotency_key, single_key
from agent_service.api.json_request import BodyLimit, read_optional_json
from agent_service.api.openapi_document import NOT_FOUND, answers, made_request, refusals
from agent_service.api.openapi_parameters import retry_extra, waiting_extra
from agent_service.api.request_answer import RequestAnswer
from agent_service.api.request_responses import cancelled, taken
from agent_service.api.waiting import Waiting
from agent_service.domain.errors import (
    FieldProblem,
    InvalidSubmission,
    StoreError,
    WriteOutcomeUnknown,
)
from agent_service.domain.json_value import escape_pointer
from agent_service.domain.planning import MAX_PROBLEMS
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService


def action_routes(
    requests: RequestService, calls: BoundedCalls, waiting: Waiting, *, body_limit: BodyLimit
) -> APIRouter:
    """`POST /v1/requests/{request_id}/cancel` and `…/retry`."""
    router = APIRouter(tags=["requests"])

    @router.post(
        "/v1/requests/{request_id}/retry",
        operation_id="retry_request",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses={
            **made_request(HTTPStatus.OK, "The new request, which has ended within the wait."),
            **made_request(HTTPStatus.ACCEPTED, "The new request, stored durably."),
            **refusals(
                not_found=NOT_FOUND,
                conflict="It has not ended, or there is nothing to repeat.",
                unprocessable_entity="There is no such step, or its Idempotency-Key was used otherwise.",
            ),
        },
        openapi_extra=retry_extra(),
    )
    async def retry_request(request_id: str, call: HttpRequest, caller: Submitter) -> Response:
        """Repeat an ended request as a new one: what completed is copied, the rest runs anew."""
        key = single_key(read_idempotency_key(call.headers))
        from_step = _from_step(await read_optional_json(call, limit=body_limit))
        late = WriteOutcomeUnknown("retrying a request took longer than its caller can wait")
        retrying = _retry(requests, request_id, from_step, caller.organization_id, key)
        view, replayed = await calls.run(retrying, late=late)
        return taken(await waiting.for_end(call, view, caller), replayed=replayed)

    @router.post(
        "/v1/requests/{request_id}/cancel",
        operation_id="cancel_request",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, "Nothing of it runs any more: the request has ended.", RequestAnswer),
            **answers(HTTPStatus.ACCEPTED, "What runs is stopped; the request ends then.", RequestAnswer),
            **refusals(not_found=NOT_FOUND, conflict="It had ended before anybody asked to cancel it."),
        },
        openapi_extra=waiting_extra(),
    )
    async def cancel_request(request_id: str, call: HttpRequest, caller: Canceller) -> Response:
        """Cancel a request at any moment; it can be repeated, and one that has ended by it is shown again."""
        late = WriteOutcomeUnknown("cancelling a request took longer than its caller can wait")
        view = await calls.run(requests.cancel(request_id, organization_id=caller.organization_id), late=late)
        return cancelled(await waiting.for_end(call, view, caller))

    return router


def _from_step(body: object) -> str | None:
    """The step named in the body of a retry; None if there is none. Raises `InvalidSubmission`."""
    if not isinstance(body, dict):
        detail = 'must be an object with "from_step", or be left out'
        raise InvalidSubmission([FieldProblem(pointer="", detail=detail)])
    problems = [
        FieldProblem(
            pointer=f"/{escape_pointer(name)}", detail='there is no such field; there is only "from_step"'
        )
        for name in islice((name for name in body if name != "from_step"), MAX_PROBLEMS)
    ]
    from_step = body.get("from_step")
    if from_step is not None and not isinstance(from_step, str):
        problems.append(FieldProblem(pointer="/from_step", detail="must be the name of a step"))
    if problems:
        raise InvalidSubmission(problems)
    return from_step


async def _retry(
    requests: RequestService, request_id: str, from_step: str | None, organization_id: str, key: str | None
) -> tuple[RequestView, bool]:
    accepted = await requests.retry(
        request_id, from_step=from_step, organization_id=organization_id, idempotency_key=key
    )
    try:
        return await requests.get(accepted.request.id, organization_id=organization_id), accepted.replayed
    except StoreError as error:
        # It is stored, so nobody may be told that nothing was.
        raise WriteOutcomeUnknown(str(error)) from error
