"""EventStream: the answer that goes on until the request has ended, the client is gone, or we stop."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from loguru import logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_service.api.disconnection import wait_until_gone
from agent_service.api.event_frames import OPENING, PING, draining_frame, event_frame, unauthorized_frame
from agent_service.domain.errors import AgentServiceError
from agent_service.domain.events import Event

PING_EVERY = timedelta(seconds=15)
#: A client that takes nothing for this long is dropped; it can go on from its cursor.
_SEND_LIMIT_SECONDS = 30
#: Frames are sent together until they have so many bytes.
_PIECE_BYTES = 32_768
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


class EventStream(Response):
    """
    Sends the events of one request as they come; owns their generator and closes it in every case.

    It ends early, and says why, when this process stops or when `withdrawn` returns: then its reader may not
    read any more. Where `withdrawn` raises, nobody knows whether it may, and it is told to connect again.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        batches: AsyncGenerator[Sequence[Event], None],
        *,
        request_id: str,
        draining: asyncio.Event,
        withdrawn: Callable[[], Awaitable[object]] = _never,
        ping_every: timedelta = PING_EVERY,
    ) -> None:
        # Not the base's own, which would declare a length.
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._batches = batches
        self._request_id = request_id
        self._log = logger.bind(request_id=request_id)
        self._draining = draining
        self._withdrawn = withdrawn
        self._ping_every = ping_every.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = _Body(send)
        sending = asyncio.create_task(self._send_events(body))
        pinging = asyncio.create_task(self._ping(body))
        stopping = asyncio.create_task(self._draining.wait())
        refused = asyncio.ensure_future(self._withdrawn())
        gone = asyncio.create_task(wait_until_gone(receive))
        try:
            await asyncio.wait({sending, pinging, stopping, refused, gone}, return_when="FIRST_COMPLETED")
            if gone.done():
                return
            if refused.done():
                await _stop(sending, pinging)
                await body.send(self._refusal(refused), last=True)
                return
            if sending.done() or pinging.done():
                (sending if sending.done() else pinging).result()
                await body.send(b"", last=True)
                return
            # What was not sent whole was not sent at all, and the client's cursor is before it.
            await _stop(sending, pinging)
            await body.send(draining_frame(self._request_id), last=True)
        except TimeoutError:
            self._log.info("a reader of events takes nothing and is dropped")
        finally:
            await _stop(sending, pinging, stopping, refused, gone)

    def _refusal(self, refused: asyncio.Future[object]) -> bytes:
        """What a reader is told whose key opens this no more, or cannot be checked."""
        error = refused.exception()
        if error is None:
            return unauthorized_frame(self._request_id)
        log = self._log.opt(exception=None if isinstance(error, AgentServiceError) else error)
        log.error("a reader of events must connect again, as its key cannot be checked: {}", error)
        return draining_frame(self._request_id)

    async def _send_events(self, body: "_Body") -> None:
        """Send all events; ends early where the request is removed meanwhile."""
        async with aclosing(self._batches) as batches:
            await body.send(OPENING)
            try:
                async for batch in batches:
                    for piece in _pieces(batch):
                        await body.send(piece)
            except AgentServiceError as error:
                self._log.info("a stream of events ends early: {}", error)

    async def _ping(self, body: "_Body") -> None:
        """Send a ping whenever nothing was sent for a while."""
        while True:
            quiet = body.quiet_seconds
            if quiet >= self._ping_every:
                await body.send(PING)
            else:
                await asyncio.sleep(self._ping_every - quiet)


class _Body:
    """The body of an answer, sent piece after piece; raises TimeoutError where the client takes nothing."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._sent_at = time.monotonic()

    @property
    def quiet_seconds(self) -> float:
        """How long nothing was sent."""
        return time.monotonic() - self._sent_at

    async def send(self, piece: bytes, *, last: bool = False) -> None:
        async with self._turn, asyncio.timeout(_SEND_LIMIT_SECONDS):
            await self._send({"type": "http.response.body", "body": piece, "more_body": not last})
            self._sent_at = time.monotonic()


def _pieces(batch: Sequence[Event]) -> Iterator[bytes]:
    """The frames of a batch, joined as long as they are short."""
    frames: list[bytes] = []
    size = 0
    for event in batch:
        frames.append(event_frame(event))
        size += len(frames[-1])
        if size >= _PIECE_BYTES:
            yield b"".join(frames)
            frames, size = [], 0
    if frames:
        yield b"".join(frames)


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
