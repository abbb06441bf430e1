"""Frames of an event stream: one event of a request as the text of Server-Sent Events."""

import json
from dataclasses import asdict, dataclass

from agent_service.api.request_answer import ErrorAnswer, Moment, error_answer, moment
from agent_service.domain.events import Event, EventType
from agent_service.domain.json_value import JsonObject

#: Sent at the beginning: how many milliseconds a client waits before it connects again.
OPENING = b"retry: 3000\n\n"
#: A comment, which clients skip, so that nothing on the way takes the connection for dead.
PING = b": ping\n\n"
#: The event that says: this process stops, connect again and go on where you are.
DRAINING = "server.draining"


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


#: One event of a stream, as whatever reads Server-Sent Events hands it out.
STREAMED_EVENT_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "the cursor to go on from, as Last-Event-ID"},
        "event": {"type": "string", "enum": [*EventType, DRAINING]},
        "data": {
            "type": "string",
            "description": f"JSON; of {DRAINING}, which only says to connect again, without `at`",
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
    body = EventBody(
        type=event.type,
        request_id=event.request_id,
        at=moment(event.at),
        step=event.step,
        attempt=event.attempt,
        seq=event.seq,
        delta=event.delta,
        error=error_answer(event.error),
        run_at=None if event.run_at is None else moment(event.run_at),
    )
    present = {name: value for name, value in asdict(body).items() if value is not None}
    return f"id: {event.cursor}\nevent: {event.type}\ndata: {_line(present)}\n\n".encode()


def draining_frame(request_id: str) -> bytes:
    """The last frame of a process that stops; it has no id, so the client's cursor stays where it is."""
    data = _line({"type": DRAINING, "request_id": request_id})
    return f"event: {DRAINING}\nretry: 1000\ndata: {data}\n\n".encode()


def _line(body: dict[str, object]) -> str:
    return json.dumps(body, ensure_ascii=True, separators=(",", ":"))
