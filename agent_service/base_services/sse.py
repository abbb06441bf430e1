"""Server-sent events, decoded from bytes as they arrive, as the HTML standard says."""

import re
from dataclasses import dataclass

from agent_service.domain.errors import BaseServiceRejected

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Only these end a line. `splitlines` would split at U+2028 and others too, which are plain text here.
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One dispatched event; `id` and `retry` serve reconnecting, which no attempt does."""

    event: str
    data: str


class EventDecoder:
    """
    Turns bytes, split anywhere, into events; what follows the last blank line is never an event.

    An event of more than `max_event_bytes` raises BaseServiceRejected("answer_too_large").
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._event_bytes = 0
        self._partial_line = bytearray()
        self._after_carriage_return = False
        self._first_line = True
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that this piece completes."""
        if not piece:
            return []
        if self._after_carriage_return and piece.startswith(b"\n"):
            piece = piece[1:]
            if not piece:
                self._after_carriage_return = False
                return []
        self._after_carriage_return = piece.endswith(b"\r")
        *complete, rest = _LINE_END.split(piece)
        events = []
        for line in complete:
            event = self._end_line(line)
            if event is not None:
                events.append(event)
        self._grow(rest)
        return events

    def _end_line(self, end_of_line: bytes) -> ServerSentEvent | None:
        self._grow(end_of_line)
        line = bytes(self._partial_line)
        self._partial_line.clear()
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        self._take_field(line.decode(errors="replace"))
        return None

    def _grow(self, part: bytes) -> None:
        self._event_bytes += len(part)
        if self._event_bytes > self._max_event_bytes:
            message = f"the base service sent an event of more than {self._max_event_bytes} bytes"
            raise BaseServiceRejected("answer_too_large", message)
        self._partial_line += part

    def _take_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._event, self._event_bytes = [], "", 0
        if not data:
            return None
        return ServerSentEvent(event=event or "message", data="\n".join(data))
