import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from time import monotonic

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local import servers
from agent_service.local.servers import STOP_GRACE_SECONDS, _listen, serve


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def endless(_: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    return StreamingResponse(chunks())


APP = Starlette(routes=[Route("/hello", hello), Route("/endless", endless)])


async def test_an_application_is_served_while_the_block_runs_and_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with serve(APP) as server, httpx2.AsyncClient() as client:
        assert server.base_url == f"http://127.0.0.1:{server.port}"
        assert (await client.get(f"{server.base_url}/hello")).text == "hello"
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    async with serve(APP, port=server.port) as again:
        assert again.port == server.port


async def test_an_open_stream_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "STOP_GRACE_SECONDS", 1)
    async with httpx2.AsyncClient() as client:
        async with serve(APP) as server:
            request = client.build_request("GET", f"{server.base_url}/endless")
            response = await client.send(request, stream=True)
            stream = response.aiter_raw()
            assert await anext(stream) == b"first"
            began = monotonic()
        assert monotonic() - began < STOP_GRACE_SECONDS
        async with asyncio.timeout(5):
            with pytest.raises(httpx2.TransportError):
                await anext(stream)
        await response.aclose()


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalPartUnavailable, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serve(APP, port=port):
                raise AssertionError("served on a taken port")


async def test_an_application_that_fails_to_start_ends_neither_silently_nor_the_process() -> None:
    @contextlib.asynccontextmanager
    async def broken(app: Starlette) -> AsyncIterator[None]:
        if not app.routes:
            raise RuntimeError("no routes")
        yield

    with pytest.raises(LocalPartUnavailable, match="failed while it started"):
        async with serve(Starlette(lifespan=broken)):
            raise AssertionError("served a broken application")


async def test_the_parts_of_an_answer_are_sent_at_once_and_do_not_wait_for_each_other() -> None:
    undelayed: asyncio.Queue[int] = asyncio.Queue()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        undelayed.put_nowait(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = _listen("127.0.0.1", 0)
    async with await asyncio.start_server(connected, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        async with asyncio.timeout(30):
            assert await undelayed.get() != 0
        writer.close()
        await writer.wait_closed()


async def test_who_says_that_it_is_a_proxy_is_believed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def who(request: Request) -> JSONResponse:
        assert request.client is not None
        return JSONResponse([request.client.host, request.url.scheme])

    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    async with serve(Starlette(routes=[Route("/", who)])) as server, httpx2.AsyncClient() as client:
        assert (await client.get(server.base_url, headers=forwarded)).json() == ["127.0.0.1", "http"]
