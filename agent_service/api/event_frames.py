"""What is sent of the events of a request: frames of Server-Sent Events, and pages of JSON."""

import json
from dataclasses import asdict, dataclass

from agent_service.api.request_answer import ErrorAnswer, Moment, error_answer, moment
from agent_service.domain.events import Event, EventType
from agent_service.domain.json_value import JsonObject
from agent_service.event_reader import EventPage

#: Sent at the beginning: how many milliseconds a client waits before it connects again.
OPENING = b"retry: 3000\n\n"
#: A comment, which clients skip, so that nothing on the way takes the connection for dead.
PING = b": ping\n\n"
#: The event that says: this process stops, connect again and go on where you are.
DRAINING = "server.draining"
#: The event that says: whoever reads this may not any more, because of a key that was revoked or has expired.
UNAUTHORIZED = "server.unauthorized"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBody:
    """What stands in `data:`; fields that an event does not have are left out."""

    type: EventType
    request_id: str
    at: Moment
    step: str | None = None
    attempt: int | None = None
    seq: int | None = None
    delta: str | None = None
    error: ErrorAnswer | None = None
    run_at: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvent(EventBody):
    """An event in a page: the same as in a stream, with its cursor."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPageAnswer:
    """
    A page of events: `next` is the cursor to go on from, which is the id of the last event in it, if any.

    `ended` says that nothing follows: `next` is behind the last event of the request.
    """

    events: tuple[ListedEvent, ...]
    next: str
    ended: bool


#: One event of a stream, as whatever reads Server-Sent Events hands it out.
STREAMED_EVENT_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "the cursor to go on from, as Last-Event-ID"},
        "event": {"type": "string", "enum": [*EventType, DRAINING, UNAUTHORIZED]},
        "data": {
            "type": "string",
            "description": f"JSON; without `at` of {DRAINING}, which only says to connect again, and of"
            f" {UNAUTHORIZED}, after which the key opens this stream no more",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/EventBody"},
        },
        "retry": {"type": "integer", "description": "milliseconds to wait before connecting again"},
    },
}


def event_frame(event: Event) -> bytes:
    """
    One event with its cursor as the id.

    The data is one line of ASCII, so that no character in it can be taken for the end of a line.
    """
    return f"id: {event.cursor}\nevent: {event.type}\ndata: {_line(_fields(event))}\n\n".encode()


def event_page(page: EventPage) -> bytes:
    """A page as JSON, in ASCII."""
    events = [{"id": str(event.cursor), **_fields(event)} for event in page.events]
    return _line({"events": events, "next": str(page.next), "ended": page.next.ended}).encode()


def _fields(event: Event) -> dict[str, object]:
    """What an event says; what it does not have is left out."""
    error = error_answer(event.error)
    fields: dict[str, object] = {
        "type": event.type.value,
        "request_id": event.request_id,
        "at": moment(event.at),
        "step": event.step,
        "attempt": event.attempt,
        "seq": event.seq,
        "delta": event.delta,
        "error": None if error is None else asdict(error),
        "run_at": None if event.run_at is None else moment(event.run_at),
    }
    return {name: value for name, value in fields.items() if value is not None}


def draining_frame(request_id: str) -> bytes:
    """The last frame of a process that stops; it has no id, so the client's cursor stays where it is."""
    data = _line({"type": DRAINING, "request_id": request_id})
    return f"event: {DRAINING}\nretry: 1000\ndata: {data}\n\n".encode()


def unauthorized_frame(request_id: str) -> bytes:
    """The last frame for a reader whose key opens nothing any more; it has no id either."""
    data = _line({"type": UNAUTHORIZED, "request_id": request_id})
    return f"event: {UNAUTHORIZED}\ndata: {data}\n\n".encode()


def _line(body: dict[str, object]) -> str:
    return json.dumps(body, ensure_ascii=True, separators=(",", ":"))
