"""The route of a request's events: a stream, or a page of what there is."""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from starlette.responses import Response

from agent_service.api.accepted_type import accepted_type
from agent_service.api.access import access_of
from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Reader
from agent_service.api.event_frames import EventPageAnswer, event_page
from agent_service.api.event_stream import EventStream
from agent_service.api.openapi_document import answers
from agent_service.api.openapi_parameters import last_event_id_extra
from agent_service.api.problems import refuse
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.events import Cursor
from agent_service.event_reader import EventPage
from agent_service.request_service import RequestService

_STREAM = "text/event-stream"
_PAGE = "application/json"
_LARGEST_PAGE = 1_000
#: How long a client should wait before it asks for the next page once it has all there is, in seconds.
_ASK_AGAIN = "1"
_ABOUT = (
    "As text/event-stream, Server-Sent Events until the request has ended: `event:` is the type, `id:` the "
    "cursor to go on from, `data:` one JSON object, an EventBody. As application/json, a page of the "
    "same events as far as they are stored now, each with its `id`: ask again with `after` set to `next` "
    "until `ended` is true, which it is with the last event (request.completed, request.failed or "
    "request.cancelled) and after it. A page may have fewer events than `limit` although there are more; "
    "only one with Retry-After has all there is so far."
)


def event_routes(
    requests: RequestService,
    calls: BoundedCalls,
    *,
    draining: asyncio.Event,
    ping_every: timedelta,
) -> APIRouter:
    """`GET /v1/requests/{request_id}/events`."""
    router = APIRouter(tags=["requests"])
    # Nothing can be refused once a stream has begun, and an up-to-date reader may wait for long.
    late = StoreUnavailable("reading a request took longer than its caller can wait")

    @router.get(
        "/v1/requests/{request_id}/events",
        operation_id="stream_events",
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, _ABOUT, {_STREAM: "StreamedEvent", _PAGE: EventPageAnswer}),
            204: {"description": "Of a stream: the cursor is behind the last event, so there is no more."},
        },
        openapi_extra=last_event_id_extra(),
    )
    async def stream_events(
        call: HttpRequest,
        request_id: str,
        caller: Reader,
        after: Annotated[str | None, Query(description="a cursor, like Last-Event-ID")] = None,
        limit: Annotated[
            int, Query(ge=1, le=_LARGEST_PAGE, description="of a page: the most events in it")
        ] = 100,
    ) -> Response:
        """Stream what happens to a request, from its beginning or after a cursor, or show a page of it."""
        accepted = accepted_type(call.headers.getlist("accept"), (_STREAM, _PAGE))
        if accepted is None:
            detail = f"events are sent as {_STREAM} or {_PAGE}; ask for one of these, or for anything"
            raise refuse(HTTPStatus.NOT_ACCEPTABLE, "not_acceptable", detail)
        # A client that connects again sends the header besides the address that it began with.
        cursor = _cursor(call.headers.get("last-event-id") or after)
        organization_id = caller.organization_id
        if accepted == _PAGE:
            page = requests.event_reader.page(
                request_id, organization_id=organization_id, after=cursor, limit=limit
            )
            return _page_response(await calls.run(page, late=late))
        checking = requests.event_reader.check(request_id, organization_id=organization_id, after=cursor)
        await calls.run(checking, late=late)
        if cursor.ended:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        batches = requests.event_reader.read_batches(request_id, after=cursor)
        return EventStream(
            batches,
            request_id=request_id,
            draining=draining,
            withdrawn=access_of(call).wait_until_withdrawn,
            ping_every=ping_every,
        )

    return router


def _cursor(text: str | None) -> Cursor:
    """Raises `InvalidCursor`."""
    return Cursor.parse(text) if text else Cursor()


def _page_response(page: EventPage) -> Response:
    headers = {"Cache-Control": "no-store"}
    if page.complete and not page.next.ended:
        headers["Retry-After"] = _ASK_AGAIN
    return Response(event_page(page), headers=headers, media_type=_PAGE)
