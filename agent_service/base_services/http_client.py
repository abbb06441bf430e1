"""
The HTTP client: what of one is needed, and the one that is made when the caller brings none.

That is aiohttp under a thin face. A call of httpx2 over aiohttp takes about twice the processor time of one
of aiohttp alone, and 9 MB of memory more; what httpx adds for people, a worker does not use. What else was
compared, and by what, is in docs/architecture.md.
"""

import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import TracebackType
from typing import Protocol, TypeAlias

import aiohttp
from yarl import URL

#: Seconds to connect, read, write, and wait for the pool; None leaves it to the call's own limit.
Timeouts: TypeAlias = tuple[float | None, float | None, float | None, float | None]

#: Many servers close what was idle for 5 s. A shorter life here keeps a call from using a connection in
#: the moment in which its other end closes it.
KEEP_ALIVE_SECONDS = 4.0
#: A request body above this is written in pieces of this size.
PIECE_BYTES = 256 * 1024
#: Bytes of an answer that are decompressed at a time: a small piece can become a thousand times as much.
DECODED_BYTES = 256 * 1024


class HttpResponse(Protocol):
    """What is used of an answer; the `Response` of httpx and of httpx2 fit."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...

    async def aread(self) -> bytes: ...


class HttpClient(Protocol):
    """What is used of a client; the `AsyncClient` of httpx and of httpx2 fit."""

    def stream(
        self,
        method: str,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str],
        timeout: Timeouts,
        follow_redirects: bool,
    ) -> AbstractAsyncContextManager[HttpResponse]: ...

    async def aclose(self) -> None: ...


class DecodingError(Exception):
    """The body of an answer is not what its `Content-Encoding` says."""


class AiohttpResponse:
    """An answer of aiohttp, whose body is decompressed in bounded pieces."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status_code(self) -> int:
        """The status of the answer."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, whose names may be written in any case."""
        return self._response.headers

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The decoded body as it comes. Raises what aiohttp raises, and DecodingError."""
        encoding = self._response.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            async for piece in self._response.content.iter_any():
                yield piece
            return
        decoder = _Decoder(encoding)
        async for piece in self._response.content.iter_any():
            for decoded in decoder.feed(piece):
                yield decoded

    async def aread(self) -> bytes:
        """The whole body in one go; asked for where the head says that it is short and in no encoding."""
        return await self._response.content.read()


class _Sent(AbstractAsyncContextManager[AiohttpResponse]):
    """A request of aiohttp; a class, because what `asynccontextmanager` makes costs several times as much."""

    __slots__ = ("_request",)

    def __init__(self, request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> None:
        self._request = request

    async def __aenter__(self) -> AiohttpResponse:
        return AiohttpResponse(await self._request.__aenter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._request.__aexit__(kind, error, traceback)


class AiohttpClient:
    """
    aiohttp as an `HttpClient`, with as many connections as there are calls at a time.

    It takes no proxy from the environment and keeps no cookies: one organization's call must not carry what
    the answer to another's left behind. Without `keep_connections` each call has a connection of its own.
    """

    def __init__(self, concurrency: int, *, keep_connections: bool = True) -> None:
        self._concurrency = concurrency
        self._keep_connections = keep_connections
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def stream(
        self,
        method: str,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str],
        timeout: Timeouts,
        follow_redirects: bool,
    ) -> AbstractAsyncContextManager[AiohttpResponse]:
        """Send a request, and hand over the answer once its head is there. Raises what aiohttp raises."""
        data: bytes | AsyncIterator[bytes] = content
        if len(content) > PIECE_BYTES:
            # aiohttp writes bytes in one go, and warns of that above 1 MiB: other calls would have to wait.
            data, headers = _pieces(content), {**headers, "Content-Length": str(len(content))}
        return _Sent(
            self._open_session(url).request(
                method,
                # As it was configured: what looks as if it could be written differently may be meant so.
                URL(url, encoded=url.isascii()),
                data=data,
                headers=headers,
                allow_redirects=follow_redirects,
                timeout=_client_timeout(timeout),
            )
        )

    async def aclose(self) -> None:
        """Close all connections; every later call fails."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self, url: str) -> aiohttp.ClientSession:
        if self._closed:
            raise aiohttp.ClientConnectionError("the client is closed")
        if self._session is None:
            # Only inside the event loop. The authorities of the system take a moment to load, during which
            # nothing else runs; True stands for those that aiohttp has loaded, should they be needed later.
            connector = aiohttp.TCPConnector(
                limit=self._concurrency,
                ssl=ssl.create_default_context() if url.startswith("https:") else True,
                # aiohttp takes a time only where connections are kept.
                keepalive_timeout=KEEP_ALIVE_SECONDS if self._keep_connections else None,
                force_close=not self._keep_connections,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def open_client(concurrency: int, *, keep_connections: bool = True) -> HttpClient:
    """A client for one base service, with as many connections as there are calls at a time."""
    return AiohttpClient(concurrency, keep_connections=keep_connections)


class _Decoder:
    """
    Undoes `gzip` or `deflate`, never more than DECODED_BYTES at a time.

    Nothing may follow the end of what was compressed, not even another member of `gzip`: nobody would count
    those bytes, and zlib keeps them all, copied anew with each piece.
    """

    def __init__(self, encoding: str) -> None:
        self._decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
        #: Some call it `deflate` and leave out the frame of RFC 1950; that shows with the first bytes.
        self._may_be_raw = encoding == "deflate"

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._decompressor.eof:
                raise DecodingError("the compressed body has ended, and more bytes follow")
            part = self._decompress(piece)
            if part:
                yield part
            piece = self._decompressor.unconsumed_tail or self._decompressor.unused_data

    def _decompress(self, piece: bytes) -> bytes:
        try:
            part = self._decompressor.decompress(piece, DECODED_BYTES)
        except zlib.error as error:
            if not self._may_be_raw:
                raise DecodingError(str(error)) from error
            self._decompressor, self._may_be_raw = zlib.decompressobj(-zlib.MAX_WBITS), False
            return self._decompress(piece)
        self._may_be_raw = False
        return part


@lru_cache(maxsize=8)
def _client_timeout(timeout: Timeouts) -> aiohttp.ClientTimeout:
    connect, read, _, pool = timeout
    return aiohttp.ClientTimeout(total=None, connect=pool, sock_connect=connect, sock_read=read)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]
