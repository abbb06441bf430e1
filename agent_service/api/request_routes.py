"""The routes of one request: taking it, and showing how it stands."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Reader, Submitter
from agent_service.api.idempotency_key import read_idempotency_key, single_key
from agent_service.api.json_request import BodyLimit, read_json
from agent_service.api.openapi_document import NOT_FOUND, answers, made_request, refusals
from agent_service.api.openapi_parameters import showing_extra, submission_extra
from agent_service.api.request_answer import RequestAnswer
from agent_service.api.request_responses import shown, taken
from agent_service.api.waiting import Waiting
from agent_service.domain.errors import FieldProblem, InvalidSubmission, StoreUnavailable, WriteOutcomeUnknown
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService


def request_routes(
    requests: RequestService, calls: BoundedCalls, waiting: Waiting, *, body_limit: BodyLimit
) -> APIRouter:
    """`POST /v1/requests` and `GET /v1/requests/{request_id}`."""
    router = APIRouter(tags=["requests"])

    @router.post(
        "/v1/requests",
        operation_id="submit_request",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses={
            **made_request(HTTPStatus.OK, "Taken, and ended within the wait."),
            **made_request(HTTPStatus.ACCEPTED, "Taken, and stored durably."),
            **refusals(
                unprocessable_entity="It can never run, or its Idempotency-Key was used with another body.",
                service_unavailable="It is not known to be stored, or its original is not yet; sent again"
                " with the same Idempotency-Key it is stored once.",
            ),
        },
        openapi_extra=submission_extra(),
    )
    async def submit_request(call: HttpRequest, caller: Submitter) -> Response:
        """Take a request; with an Idempotency-Key it can be sent any number of times and is taken once."""
        key = single_key(read_idempotency_key(call.headers))
        body = await read_json(call, limit=body_limit)
        if not isinstance(body, dict):
            raise InvalidSubmission([FieldProblem(pointer="", detail='must be an object with "steps"')])

        async def take() -> tuple[RequestView, bool]:
            accepted = await requests.submit(body, caller=caller, idempotency_key=key)
            if not accepted.replayed:
                return RequestView(request=accepted.request, contexts=()), False
            request_id = accepted.request.id
            return await requests.get(request_id, organization_id=caller.organization_id), True

        late = WriteOutcomeUnknown("storing a request took longer than its caller can wait")
        view, replayed = await calls.wait_for(take(), late=late)
        return taken(await waiting.for_end(call, view, caller), replayed=replayed)

    @router.get(
        "/v1/requests/{request_id}",
        operation_id="get_request",
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, "How the request stands.", RequestAnswer),
            **refusals(not_found=NOT_FOUND),
            304: {"description": "It stands as in the representation that If-None-Match names."},
        },
        openapi_extra=showing_extra(),
    )
    async def get_request(request_id: str, call: HttpRequest, caller: Reader) -> Response:
        """Show a request and its steps, with what they have put out; on request at its end."""
        late = StoreUnavailable("reading a request took longer than its caller can wait")
        view = await calls.run(requests.get(request_id, organization_id=caller.organization_id), late=late)
        return shown(await waiting.for_end(call, view, caller), call.headers)

    return router
