"""The route of a request's events."""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Request as HttpRequest
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import caller_of
from agent_service.api.event_stream import EventStream
from agent_service.api.openapi_document import answers, last_event_id_extra
from agent_service.api.problems import refuse
from agent_service.domain.errors import RequestNotFound, StoreUnavailable
from agent_service.domain.events import Cursor, InvalidCursor
from agent_service.domain.request import Caller
from agent_service.request_service import RequestService
from agent_service.store import Store

_STREAM = "text/event-stream"
_ABOUT = (
    "Server-Sent Events until the request has ended: `event:` is the type, `id:` the cursor to go on from, "
    "`data:` one JSON object, an EventBody."
)


def event_routes(
    store: Store,
    requests: RequestService,
    calls: BoundedCalls,
    *,
    draining: asyncio.Event,
    ping_every: timedelta,
) -> APIRouter:
    """`GET /v1/requests/{request_id}/events`."""
    router = APIRouter(tags=["requests"])

    @router.get(
        "/v1/requests/{request_id}/events",
        operation_id="stream_events",
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, _ABOUT, "StreamedEvent", media_type=_STREAM),
            204: {"description": "The cursor is behind the last event: there will be no more."},
        },
        openapi_extra=last_event_id_extra(),
    )
    async def stream_events(
        call: HttpRequest,
        request_id: str,
        caller: Annotated[Caller, Depends(caller_of)],
        after: Annotated[str | None, Query(description="a cursor, like Last-Event-ID")] = None,
    ) -> Response:
        """Stream what happens to a request, from its beginning or after a cursor."""
        if not _accepts_stream(call.headers.getlist("accept")):
            detail = f"events are sent as {_STREAM}; ask for that, or for anything"
            raise refuse(HTTPStatus.NOT_ACCEPTABLE, "not_acceptable", detail)
        # A client that connects again sends the header besides the address that it began with.
        cursor = _cursor(call.headers.get("last-event-id") or after)
        # Nothing can be refused once a stream has begun, and an up-to-date reader may wait for long.
        late = StoreUnavailable("reading a request took longer than its caller can wait")
        request = await calls.run(
            store.requests.get(request_id, organization_id=caller.organization_id), late=late
        )
        if request is None:
            raise RequestNotFound(request_id)
        if not set(cursor.steps) <= set(request.step_names):
            raise InvalidCursor("the cursor names a step that this request does not have")
        if cursor.ended:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        events = requests.events(request_id, organization_id=caller.organization_id, after=cursor)
        return EventStream(events, request_id=request_id, draining=draining, ping_every=ping_every)

    return router


def _cursor(text: str | None) -> Cursor:
    """Raises `InvalidCursor`."""
    return Cursor.parse(text) if text else Cursor()


def _accepts_stream(accept: list[str]) -> bool:
    """Whether an Accept header, where there is one, has room for a stream."""
    ranges = [
        part.replace(" ", "").lower().split(";") for part in ",".join(accept).split(",") if part.strip()
    ]
    return not ranges or any(
        name in (_STREAM, "text/*", "*/*") and not {"q=0", "q=0.0", "q=0.00", "q=0.000"} & set(parameters)
        for name, *parameters in ranges
    )
