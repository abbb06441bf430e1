"""Following a request: its events, each once and in order, however often the stream breaks."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from time import monotonic

import httpx2

from agent_service.client.connection import Connection, path_of
from agent_service.client.json_fields import as_object
from agent_service.client.pace import Pace
from agent_service.client.request_event import RequestEvent
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable

#: What a server says of itself before it closes a stream: connect again and go on where you are. Whoever may
#: not read any more is told so then.
_OF_SERVER = "server."
#: A stream that was open for so many seconds did work, whether or not anything happened to the request.
_WORKED_SECONDS = 1.0


async def follow(
    connection: Connection, request_id: str, *, after: str | None, patience: timedelta
) -> AsyncGenerator[RequestEvent, None]:
    """The events after a cursor, up to the last one; gives up when no stream has worked for so long."""
    follower, pace = _Follower(connection, request_id, after), Pace(patience)
    while True:
        trouble = BaseServiceUnavailable("api_unavailable", "the stream of events ends again and again")
        try:
            async with aclosing(follower.read_stream()) as events:
                async for event in events:
                    pace.reset()
                    yield event
        except BaseServiceUnavailable as error:
            trouble = error
        if follower.at_end:
            return
        if follower.worked:
            pace.reset()
        await pace.pause_or_raise(trouble)


class _Follower:
    """Reads one stream after the other, each from where the one before it ended."""

    def __init__(self, connection: Connection, request_id: str, cursor: str | None) -> None:
        self._connection = connection
        self._request_id = request_id
        self._cursor = cursor
        self._opened_at: float | None = None
        #: Whether there will be no more events.
        self.at_end = False

    @property
    def worked(self) -> bool:
        """Whether the latest stream was open for some time."""
        return self._opened_at is not None and monotonic() - self._opened_at > _WORKED_SECONDS

    async def read_stream(self) -> AsyncGenerator[RequestEvent, None]:
        """The events of one stream, until it ends or its server stops."""
        self._opened_at = None
        headers = {"Accept": "text/event-stream"}
        if self._cursor is not None:
            headers["Last-Event-ID"] = self._cursor
        path = f"{path_of(self._request_id)}/events"
        async with self._connection.stream(path, headers=headers, request_id=self._request_id) as answer:
            self._opened_at = monotonic()
            if answer.status_code == HTTPStatus.NO_CONTENT:
                self.at_end = True
                return
            async for sent in httpx2.EventSource(answer, max_event_size=None):
                if sent.event.startswith(_OF_SERVER):
                    return
                # What has no data says how to go on reading; what has our cursor is what we have read.
                if sent.data and sent.id != self._cursor:
                    event = _read_event(sent)
                    self._cursor, self.at_end = event.id, event.ends_request
                    yield event
                    if self.at_end:
                        return


def _read_event(sent: httpx2.ServerSentEvent) -> RequestEvent:
    try:
        raw = as_object(json.loads(sent.data))
    except ValueError:
        raw = None
    if raw is None:
        raise BaseServiceRejected("unusable_answer", "the stream holds something that is no JSON object")
    return RequestEvent.read(raw, type=sent.event, id=sent.id)
