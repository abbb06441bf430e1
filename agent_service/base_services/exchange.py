"""Exchange: one HTTP request to a base service, and the reading of its answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_service.base_services.asked_wait import asked_wait
from agent_service.base_services.body import drain, read_all, read_beginning, read_pieces, too_large
from agent_service.base_services.call import BaseServiceAnswer, OnDelta
from agent_service.base_services.error_message import find_error
from agent_service.base_services.http_client import HttpClient, HttpResponse
from agent_service.base_services.json_body import invalid_answer, parse_object
from agent_service.base_services.protocol import ServiceProtocol, StreamReading
from agent_service.base_services.sse import EventDecoder, ServerSentEvent
from agent_service.base_services.status_errors import reported_error, status_error
from agent_service.base_services.transport_errors import transport_error
from agent_service.domain.errors import BaseServiceError, BaseServiceUnavailable

#: Seconds within which an address must accept a connection; less when the call has less.
CONNECT_SECONDS = 10.0
#: What is read of the body of an error, and how long it may take: its status says most already.
ERROR_BODY_BYTES = 64 * 1024
ERROR_BODY_SECONDS = 2.0
#: Of a stream, as much is taken at a time as takes a few milliseconds even where its events are tiny.
TURN_BYTES = 16 * 1024
#: Longest silence inside a stream; comments that keep the connection alive are no silence.
SILENCE_SECONDS = 300.0
#: A stream may have so many times the bytes of a whole answer: each token comes in a wrapping of its own.
STREAM_FACTOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request as it goes out."""

    url: str
    headers: dict[str, str]
    content: bytes
    seconds: float


async def _in_turns(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """
    The same bytes in parts that do not take long, each followed by a turn for everybody else.

    A service that sends faster than its events can be taken must not cost its neighbours their leases. One
    that falls silent in the middle raises BaseServiceUnavailable("timeout"); before its first byte it may
    think for as long as the call may take.
    """
    seconds = None
    while (piece := await _next_within(seconds, pieces)) is not None:
        seconds = SILENCE_SECONDS
        for start in range(0, len(piece), TURN_BYTES):
            yield piece[start : start + TURN_BYTES]
            await asyncio.sleep(0)


async def _next_within(seconds: float | None, pieces: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(seconds):
            return await anext(pieces, None)
    except TimeoutError as error:
        said = f"the base service sent nothing for {seconds:.3g} s in the middle of its stream"
        raise BaseServiceUnavailable("timeout", said, answered=True) from error


class Exchange:
    """
    Sends one request and settles with its answer, or with the exception that ended it, to be taken once.

    `settled` is done before the connection is released, which can take its time: what was learned does
    not wait for that. `answered` says whether the head of an answer has come.
    """

    def __init__(self, http_client: HttpClient, protocol: ServiceProtocol, max_answer_bytes: int) -> None:
        self.answered = False
        self.settled: asyncio.Future[None] = asyncio.Future()
        self._settled_with: BaseServiceAnswer | Exception | None = None
        self._http_client = http_client
        self._protocol = protocol
        self._max_answer_bytes = max_answer_bytes
        self._characters = 0

    async def run(self, request: PreparedRequest, on_delta: OnDelta) -> None:
        """Never raises but CancelledError."""
        try:
            async with self._http_client.stream(
                "POST",
                request.url,
                content=request.content,
                headers=request.headers,
                timeout=(min(CONNECT_SECONDS, request.seconds), None, None, None),
                follow_redirects=False,
            ) as response:
                self.answered = True
                self._settle(await self._outcome(response, on_delta))
        except Exception as error:  # noqa: BLE001 - an injected client may raise anything; it is translated
            self._settle(_lost(error, answered=self.answered))

    def take(self) -> BaseServiceAnswer | Exception:
        """
        What it settled with, which it forgets.

        The traceback of an exception refers to this exchange, which must not refer back to it.
        """
        outcome, self._settled_with = self._settled_with, None
        assert outcome is not None
        return outcome

    def _settle(self, outcome: BaseServiceAnswer | Exception) -> None:
        if not self.settled.done():
            self._settled_with = outcome
            self.settled.set_result(None)

    async def _outcome(self, response: HttpResponse, on_delta: OnDelta) -> BaseServiceAnswer | Exception:
        try:
            if not 200 <= response.status_code < 300:
                return await self._refusal(response)
            content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if content_type == "text/event-stream":
                return await self._read_stream(response, on_delta)
            if content_type and "json" not in content_type:
                raise invalid_answer(f"{content_type[:80]!r} where JSON belongs")
            body = await read_all(response, self._max_answer_bytes)
            return self._protocol.read_object(parse_object(body))
        except Exception as error:  # noqa: BLE001 - handed to the caller of the client as it is
            return error

    async def _read_stream(self, response: HttpResponse, on_delta: OnDelta) -> BaseServiceAnswer:
        reading = self._protocol.read_stream()
        decoder = EventDecoder(self._max_answer_bytes)
        async with (
            aclosing(read_pieces(response, STREAM_FACTOR * self._max_answer_bytes)) as pieces,
            aclosing(_in_turns(pieces)) as parts,
        ):
            async for part in parts:
                for event in decoder.feed(part):
                    delta = self._take(event, reading)
                    if delta:
                        await on_delta(delta)
                    if reading.ended:
                        answer = reading.answer()
                        self._settle(answer)
                        await drain(pieces)
                        return answer
        return reading.answer()

    def _take(self, event: ServerSentEvent, reading: StreamReading) -> str:
        if event.event == "error":
            raise reported_error(find_error("", event.data.encode()))
        delta = reading.take(event.data)
        self._characters += len(delta)
        if self._characters > self._max_answer_bytes:
            raise too_large(self._max_answer_bytes)
        return delta

    async def _refusal(self, response: HttpResponse) -> BaseServiceError:
        headers = response.headers
        wait = asked_wait(response.status_code, headers, now=datetime.now(UTC))
        body = await read_beginning(response, ERROR_BODY_BYTES, ERROR_BODY_SECONDS)
        return status_error(response.status_code, find_error(headers.get("content-type", ""), body), wait)


def _lost(error: Exception, *, answered: bool) -> Exception:
    lost = transport_error(error, answered=answered)
    lost.__cause__ = error
    return lost
