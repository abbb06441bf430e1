"""Answers that are given before a request has arrived: they reach their client, and nobody sends for ever."""

import asyncio
import contextlib
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from starlette.types import Receive, Scope, Send

from agent_service.local import lingering
from agent_service.local.servers import Server, serve

#: So long a client may wait for anything here, in seconds.
LIMIT = 60
HEAD = b"POST %s HTTP/1.1\r\nHost: api\r\n"
CHUNK = b"2000\r\n" + b" " * 0x2000 + b"\r\n"


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 413 before the body has come; the connection ends with it under `/close`."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/read":
        # So much that the server has stopped reading, and then one piece of it.
        await receive()
    close = [(b"connection", b"close")] if scope["path"] != "/keep" else []
    headers = [(b"content-length", b"7"), *close]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(refuse) as running:
        yield running


@pytest.fixture
def busy_core() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


async def send_for_ever(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(CHUNK * 8)
            await writer.drain()


async def answer_to_endless(server: Server, path: bytes) -> bytes:
    """All that a client reads that sends a body without an end. Raises ConnectionResetError."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n")
    sending = asyncio.create_task(send_for_ever(writer))
    try:
        async with asyncio.timeout(LIMIT):
            # The answer is there by now, and more has been sent than is in any buffer.
            await asyncio.wait({sending}, timeout=0.02)
            return await reader.read()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


@pytest.mark.parametrize("path", [b"/close", b"/read"])
@pytest.mark.usefixtures("busy_core")
async def test_who_still_sends_reads_the_answer_to_its_end_and_is_not_reset(
    server: Server, path: bytes
) -> None:
    for _ in range(10):
        answers = await asyncio.gather(*(answer_to_endless(server, path) for _ in range(10)))
        assert all(
            each.startswith(b"HTTP/1.1 413 ") and each.endswith(b"\r\n\r\nrefused") for each in answers
        )


async def test_who_sends_what_is_no_http_reads_the_answer_too(server: Server) -> None:
    for _ in range(20):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"\x00 nonsense\r\n\r\n" + b"x" * 1_000_000)
        async with asyncio.timeout(LIMIT):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


@pytest.mark.parametrize("path", [b"/close", b"/keep"])
async def test_who_never_stops_is_cut_after_so_many_bytes_and_takes_no_memory(
    server: Server, path: bytes
) -> None:
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n")
    tracemalloc.start()
    try:
        async with asyncio.timeout(LIMIT):
            await send_for_ever(writer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < lingering.LINGER_BYTES / 8
    writer.close()


@pytest.mark.parametrize("path", [b"/close", b"/keep"])
async def test_who_sends_slowly_is_cut_after_a_while(
    server: Server, path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_WITHIN", timedelta(seconds=0.2))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n")
    async with asyncio.timeout(LIMIT):
        assert (await reader.readuntil(b"refused")).startswith(b"HTTP/1.1 413 ")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
    writer.close()


async def test_a_connection_is_used_again_after_the_rest_of_a_body_that_nobody_read(server: Server) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    async with asyncio.timeout(LIMIT):
        for _ in range(3):
            writer.write(HEAD % b"/keep" + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000)
            assert (await reader.readuntil(b"refused")).startswith(b"HTTP/1.1 413 ")
            writer.write(b"x" * 100_000)
            await writer.drain()
        writer.write(HEAD % b"/close" + b"Content-Length: 0\r\n\r\n")
        # Nothing more comes, so this is the end of both sides.
        assert (await reader.read()).endswith(b"refused")
    writer.close()


async def test_a_server_that_stops_waits_for_nobody_who_still_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_WITHIN", timedelta(seconds=8))
    async with asyncio.timeout(LIMIT), serve(refuse) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(HEAD % b"/close" + b"Transfer-Encoding: chunked\r\n\r\n")
        await reader.read()
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < lingering.LINGER_WITHIN.total_seconds() / 2
    writer.close()
