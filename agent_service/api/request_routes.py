"""The routes of requests: taking one, and showing how it stands."""

from http import HTTPStatus
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Request as HttpRequest
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import caller_of
from agent_service.api.idempotency_key import read_idempotency_key
from agent_service.api.json_request import read_json, read_optional_json
from agent_service.api.openapi_document import answers, problem_answer, retry_extra, submission_extra
from agent_service.api.request_answer import RequestAnswer, request_answer, request_path
from agent_service.domain.errors import FieldProblem, InvalidSubmission, StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.json_value import escape_pointer
from agent_service.domain.planning import MAX_PROBLEMS
from agent_service.domain.request import Caller
from agent_service.request_service import RequestService, RequestView

#: How long a client should wait before it asks how a request stands, in seconds.
_ASK_AGAIN = "1"
#: The headers of an answer that names a request which was just made.
_TAKEN = ("Location", "Retry-After", "Idempotency-Replayed")


def request_routes(requests: RequestService, calls: BoundedCalls, *, max_body_bytes: int) -> APIRouter:
    """`POST /v1/requests`; and of a request `GET /v1/requests/{request_id}`, `POST …/cancel`, `…/retry`."""
    router = APIRouter(tags=["requests"])

    @router.post(
        "/v1/requests",
        operation_id="submit_request",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses=answers(HTTPStatus.ACCEPTED, "Taken, and stored durably.", RequestAnswer, headers=_TAKEN),
        openapi_extra=submission_extra(),
    )
    async def submit_request(call: HttpRequest, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Take a request; with an Idempotency-Key it can be sent any number of times and is taken once."""
        key = read_idempotency_key(call.headers)
        body = await read_json(call, max_bytes=max_body_bytes)
        if not isinstance(body, dict):
            raise InvalidSubmission([FieldProblem(pointer="", detail='must be an object with "steps"')])

        async def take() -> tuple[RequestView, bool]:
            accepted = await requests.submit(body, caller=caller, idempotency_key=key)
            if not accepted.replayed:
                return RequestView(request=accepted.request, contexts=()), False
            request_id = accepted.request.id
            return await requests.get(request_id, organization_id=caller.organization_id), True

        late = WriteOutcomeUnknown("storing a request took longer than its caller can wait")
        return _taken(*await calls.run(take(), late=late))

    @router.post(
        "/v1/requests/{request_id}/retry",
        operation_id="retry_request",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses={
            **answers(HTTPStatus.ACCEPTED, "The new request, stored durably.", RequestAnswer, headers=_TAKEN),
            **problem_answer(
                HTTPStatus.CONFLICT,
                "It has not ended, or there is nothing to repeat.",
                code="request_not_ended",
            ),
        },
        openapi_extra=retry_extra(),
    )
    async def retry_request(
        request_id: str, call: HttpRequest, caller: Annotated[Caller, Depends(caller_of)]
    ) -> Response:
        """Repeat an ended request as a new one: what completed is copied, the rest runs anew."""
        key = read_idempotency_key(call.headers)
        from_step = _from_step(await read_optional_json(call, max_bytes=max_body_bytes))
        late = WriteOutcomeUnknown("retrying a request took longer than its caller can wait")
        retrying = _retry(requests, request_id, from_step, caller.organization_id, key)
        return _taken(*await calls.run(retrying, late=late))

    @router.post(
        "/v1/requests/{request_id}/cancel",
        operation_id="cancel_request",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, "Nothing of it ran: the request has ended.", RequestAnswer),
            **answers(
                HTTPStatus.ACCEPTED,
                "What runs is stopped; the request ends then.",
                RequestAnswer,
                headers=["Retry-After"],
            ),
            **problem_answer(
                HTTPStatus.CONFLICT,
                "It had ended before anybody asked to cancel it.",
                code="request_already_ended",
            ),
        },
    )
    async def cancel_request(request_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Cancel a request at any moment; it can be repeated, and one that has ended by it is shown again."""
        late = WriteOutcomeUnknown("cancelling a request took longer than its caller can wait")
        view = await calls.run(requests.cancel(request_id, organization_id=caller.organization_id), late=late)
        if view.status.ended:
            return _answer(view, HTTPStatus.OK, {})
        return _answer(view, HTTPStatus.ACCEPTED, {"Retry-After": _ASK_AGAIN})

    @router.get(
        "/v1/requests/{request_id}",
        operation_id="get_request",
        response_class=Response,
        responses=answers(HTTPStatus.OK, "How the request stands.", RequestAnswer, headers=["Retry-After"]),
    )
    async def get_request(request_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Show a request and its steps, with what they have put out."""
        late = StoreUnavailable("reading a request took longer than its caller can wait")
        view = await calls.run(requests.get(request_id, organization_id=caller.organization_id), late=late)
        headers = {} if view.status.ended else {"Retry-After": _ASK_AGAIN}
        return _answer(view, HTTPStatus.OK, headers)

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
    except StoreUnavailable as error:
        # It is stored, so nobody may be told that nothing was.
        raise WriteOutcomeUnknown(str(error)) from error


def _taken(view: RequestView, replayed: bool) -> Response:
    """The answer to whoever made a request, or made it before with the same key."""
    headers = {"Location": request_path(view.request.id), "Retry-After": _ASK_AGAIN}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return _answer(view, HTTPStatus.ACCEPTED, headers)


def _answer(view: RequestView, status: HTTPStatus, headers: dict[str, str]) -> Response:
    return Response(
        request_answer(view).to_json(),
        status_code=status,
        headers={"Cache-Control": "no-store", **headers},
        media_type="application/json",
    )
