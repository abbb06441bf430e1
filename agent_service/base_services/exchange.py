"""Exchange: one HTTP request to a base service, and the reading of its answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_service.base_services.body import drain, read_all, read_beginning, read_pieces
from agent_service.base_services.call import BaseServiceAnswer, OnDelta
from agent_service.base_services.error_message import find_message
from agent_service.base_services.http_client import HttpClient, HttpResponse
from agent_service.base_services.json_body import invalid_answer, parse_object
from agent_service.base_services.protocol import ServiceProtocol
from agent_service.base_services.sse import EventDecoder
from agent_service.base_services.status_errors import status_error
from agent_service.base_services.transport_errors import transport_error
from agent_service.domain.errors import BaseServiceError
from agent_service.domain.retry_after import parse_retry_after

#: Seconds within which an address must accept a connection; less when the call has less.
CONNECT_SECONDS = 10.0
#: What is read of the body of an error, and how long it may take: its status says most already.
ERROR_BODY_BYTES = 64 * 1024
ERROR_BODY_SECONDS = 2.0
#: Of a stream, as much is taken at a time as takes a few milliseconds even where its events are tiny.
TURN_BYTES = 16 * 1024


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

    A service that sends faster than its events can be taken must not cost its neighbours their leases.
    """
    async for piece in pieces:
        for start in range(0, len(piece), TURN_BYTES):
            yield piece[start : start + TURN_BYTES]
            await asyncio.sleep(0)


class Exchange:
    """
    Sends one request and settles with its answer, or with the exception that ended it.

    `settled` is done before the connection is released, which can take its time: what was learned does
    not wait for that. `answered` says whether the head of an answer has come.
    """

    def __init__(self, http_client: HttpClient, protocol: ServiceProtocol, max_answer_bytes: int) -> None:
        self.answered = False
        self.settled: asyncio.Future[BaseServiceAnswer | Exception] = asyncio.Future()
        self._http_client = http_client
        self._protocol = protocol
        self._max_answer_bytes = max_answer_bytes

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
            lost = transport_error(error, answered=self.answered)
            lost.__cause__ = error
            self._settle(lost)

    def _settle(self, outcome: BaseServiceAnswer | Exception) -> None:
        if not self.settled.done():
            self.settled.set_result(outcome)

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
            aclosing(read_pieces(response, self._max_answer_bytes)) as pieces,
            aclosing(_in_turns(pieces)) as parts,
        ):
            async for part in parts:
                for event in decoder.feed(part):
                    delta = reading.take(event.data)
                    if delta:
                        await on_delta(delta)
                    if reading.ended:
                        answer = reading.answer()
                        self._settle(answer)
                        await drain(pieces)
                        return answer
        return reading.answer()

    async def _refusal(self, response: HttpResponse) -> BaseServiceError:
        headers = response.headers
        retry_after = parse_retry_after(
            headers.get("retry-after"), now=datetime.now(UTC), date=headers.get("date")
        )
        body = await read_beginning(response, ERROR_BODY_BYTES, ERROR_BODY_SECONDS)
        message = find_message(headers.get("content-type", ""), body)
        return status_error(response.status_code, message, retry_after)
