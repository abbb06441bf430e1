"""EventStream: the answer that goes on until the request has ended, the client is gone, or we stop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any

from loguru import logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_service.api.event_frames import OPENING, PING, draining_frame, event_frame
from agent_service.domain.errors import AgentServiceError
from agent_service.domain.events import Event

PING_EVERY = timedelta(seconds=15)
#: A client that takes nothing for this long is dropped; it can go on from its cursor.
_SEND_LIMIT_SECONDS = 30
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Sends the events of one request as they come; owns the iterator and closes it in every case."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Event],
        *,
        request_id: str,
        draining: asyncio.Event,
        ping_every: timedelta = PING_EVERY,
    ) -> None:
        # Not the base's own, which would declare a length.
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._events = events
        self._request_id = request_id
        self._log = logger.bind(request_id=request_id)
        self._draining = draining
        self._ping_every = ping_every.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        del scope
        stopping = asyncio.create_task(self._draining.wait())
        gone = asyncio.create_task(_wait_until_gone(receive))
        upcoming = asyncio.create_task(self._next())
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await _send_body(send, OPENING)
            while True:
                await asyncio.wait(
                    {upcoming, stopping, gone}, timeout=self._ping_every, return_when="FIRST_COMPLETED"
                )
                if gone.done():
                    return
                if stopping.done():
                    await _send_body(send, draining_frame(self._request_id), last=True)
                    return
                if not upcoming.done():
                    await _send_body(send, PING)
                    continue
                event = upcoming.result()
                if event is None:
                    await _send_body(send, b"", last=True)
                    return
                await _send_body(send, event_frame(event))
                upcoming = asyncio.create_task(self._next())
        except TimeoutError:
            self._log.info("a reader of events takes nothing and is dropped")
        finally:
            await _stop(upcoming, stopping, gone)
            if isinstance(self._events, AsyncGenerator):
                await self._events.aclose()

    async def _next(self) -> Event | None:
        """The next event; None at the end, also where the request is removed meanwhile."""
        try:
            return await anext(self._events, None)
        except AgentServiceError as error:
            self._log.info("a stream of events ends early: {}", error)
            return None


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_body(send: Send, body: bytes, *, last: bool = False) -> None:
    async with asyncio.timeout(_SEND_LIMIT_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": not last})
