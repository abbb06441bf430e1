"""Reading what a base service sends, never more of it than allowed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import TypeVar

from agent_service.base_services.http_client import HttpResponse
from agent_service.base_services.json_body import invalid_answer
from agent_service.base_services.transport_errors import transport_error
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected

#: Seconds to wait for the end of a body whose content is known already.
DRAIN_SECONDS = 0.1

_DECODABLE = frozenset({"", "identity", "gzip", "deflate"})
_Read = TypeVar("_Read")


async def read_pieces(response: HttpResponse, max_bytes: int) -> AsyncGenerator[bytes]:
    """
    The decoded body in pieces, counted as they come.

    Raises BaseServiceRejected("answer_too_large") at the piece that passes `max_bytes`, or before the
    first when `Content-Length` says so, and BaseServiceUnavailable when the connection breaks.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in _DECODABLE:
        # Each further layer, and each other algorithm, can multiply one small piece by a thousand or more.
        raise invalid_answer("a content encoding that was not asked for")
    if (_declared_length(response) or 0) > max_bytes:
        raise too_large(max_bytes)
    pieces = response.aiter_bytes()
    total = 0
    try:
        while (piece := await _translated(anext(pieces, None))) is not None:
            total += len(piece)
            if total > max_bytes:
                raise too_large(max_bytes)
            yield piece
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def read_all(response: HttpResponse, max_bytes: int) -> bytes:
    """The whole decoded body; raises what `read_pieces` raises."""
    declared = _declared_length(response)
    if declared is not None and declared <= max_bytes and "transfer-encoding" not in response.headers:
        body = await _translated(response.aread())
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    async with aclosing(read_pieces(response, max_bytes)) as pieces:
        return b"".join([piece async for piece in pieces])


async def read_beginning(response: HttpResponse, max_bytes: int, seconds: float) -> bytes:
    """What of the body can be had within both limits; never raises for what the service does."""
    body = bytearray()
    with suppress(BaseServiceError, TimeoutError):
        async with asyncio.timeout(seconds), aclosing(read_pieces(response, max_bytes)) as pieces:
            async for piece in pieces:
                body += piece
    return bytes(body)


async def drain(pieces: AsyncGenerator[bytes]) -> None:
    """
    Read to the end of a body if it is near.

    Only a connection whose answer was read to its end can be used again; a service that keeps it open
    is not waited for.
    """
    with suppress(BaseServiceError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in pieces:
                pass


def too_large(max_bytes: int) -> BaseServiceRejected:
    """The answer has more bytes than this client takes."""
    return BaseServiceRejected(
        "answer_too_large", f"the base service sent more than {max_bytes} bytes, counted decompressed"
    )


def _declared_length(response: HttpResponse) -> int | None:
    """The bytes of a body that is not encoded, if its head says how many."""
    if response.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        return None
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


async def _translated(reading: Awaitable[_Read]) -> _Read:
    try:
        return await reading
    except Exception as error:
        # aiohttp keeps the error in the stream, to which its traceback refers.
        error.__traceback__ = None
        raise transport_error(error, answered=True) from error
