"""The route of the list of requests."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Reader
from agent_service.api.list_answer import LIST_EXAMPLE, ListAnswer, list_answer
from agent_service.api.list_query import list_extra, read_list_query
from agent_service.api.openapi_document import answers, refusals
from agent_service.domain.errors import StoreUnavailable
from agent_service.request_service import RequestService

_PATH = "/v1/requests"


def list_routes(requests: RequestService, calls: BoundedCalls) -> APIRouter:
    """`GET /v1/requests`."""
    router = APIRouter(tags=["requests"])

    @router.get(
        _PATH,
        operation_id="list_requests",
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, "A page of requests, newest first.", ListAnswer, example=LIST_EXAMPLE),
            **refusals(
                bad_request="The cursor is not one of this list.",
                unprocessable_entity="A parameter is wrong, or there is no such.",
            ),
        },
        openapi_extra=list_extra(),
    )
    async def list_requests(call: HttpRequest, caller: Reader) -> Response:
        """
        List requests that match all filters, newest first.

        Besides the parameters below, `metadata.KEY=VALUE` (up to 10 of them) chooses by a field of the
        metadata: one that is VALUE as a string, or as the number or truth value that is written like that,
        or a list that holds it. A page may be short, and even empty, although others follow; only `next`
        says whether they do.
        """
        query = read_list_query(call.query_params)
        late = StoreUnavailable("listing requests took longer than its caller can wait")
        listing = requests.list(
            query.where, organization_id=caller.organization_id, after=query.after, limit=query.limit
        )
        page = await calls.run(listing, late=late)
        headers = {"Cache-Control": "no-store"}
        if page.next is not None:
            headers["Link"] = f'<{_PATH}?{query.next(page.next)}>; rel="next"'
        return Response(list_answer(page).to_json(), headers=headers, media_type="application/json")

    return router
