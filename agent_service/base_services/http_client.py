"""
The HTTP client: what of one is needed, and the one that is made when the caller brings none.

httpx2 is imported in this module only, so that the choice stays one line.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol, TypeAlias

import aiohttp
import httpx2 as httpx
from httpx_aiohttp.httpx2 import AiohttpTransport, Httpx2AiohttpClient

#: Seconds to connect, read, write, and wait for the pool; None leaves it to the call's own limit.
Timeouts: TypeAlias = tuple[float | None, float | None, float | None, float | None]

#: Many servers close what was idle for 5 s. A shorter life here keeps a call from using a connection in
#: the moment in which its other end closes it.
KEEP_ALIVE_SECONDS = 4.0
#: A request body above this is written in pieces of this size.
PIECE_BYTES = 256 * 1024


class HttpResponse(Protocol):
    """What is used of an answer; the `Response` of httpx and of httpx2 fit."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...


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


class _Pieces(httpx.AsyncByteStream):
    """A request body that is at hand, written piece by piece."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), PIECE_BYTES):
            yield self._content[start : start + PIECE_BYTES]


class _Transport(AiohttpTransport):
    """aiohttp under httpx2, without the session's own cookie jar, and with large bodies in pieces."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # aiohttp writes bytes in one go, and warns of that above 1 MiB: other calls would have to wait.
        # The Content-Length that the request has already keeps the pieces from becoming chunks.
        if len(request.content) > PIECE_BYTES:
            request = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                stream=_Pieces(request.content),
                extensions=request.extensions,
            )
        return await super().handle_async_request(request)

    def get_client(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self.limits.max_connections or 0,
            keepalive_timeout=self.limits.keepalive_expiry,
            ssl=self.ssl_context,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def open_client(concurrency: int) -> HttpClient:
    """
    A client for one base service, with as many connections as there are calls at a time.

    It takes nothing from the environment and keeps no cookies: one organization's call must not carry
    what the answer to another's left behind.
    """
    limits = httpx.Limits(max_connections=concurrency, keepalive_expiry=KEEP_ALIVE_SECONDS)
    return Httpx2AiohttpClient(
        transport=_Transport(limits=limits, trust_env=False),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )
