"""The API over real sockets: what a client library would not send, and MongoDB being away."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from time import monotonic

import httpx2
import pytest

from agent_service.local.servers import Server, serve
from agent_service.store import Store
from tests.support.api import MAX_BODY_BYTES, SUBMISSION, assert_problem, make_app, memory_store

HEAD = b"POST /v1/requests HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(make_app(memory_store())) as running:
        yield running


async def exchange(server: Server, pieces: AsyncIterator[bytes]) -> bytes:
    """Send pieces until the server hangs up; what it answered."""
    reader, writer = await asyncio.open_connection(server.host, server.port)

    async def read() -> bytes:
        answer = bytearray()
        while piece := await reader.read(4096):
            answer += piece
        return bytes(answer)

    async def send() -> None:
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(20):
            return await read()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def endless_chunks(head: bytes) -> AsyncIterator[bytes]:
    yield head + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"2000\r\n" + b" " * 0x2000 + b"\r\n"


async def test_an_endless_body_is_refused_while_it_is_sent(server: Server) -> None:
    answer = await exchange(server, endless_chunks(HEAD))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["code"] == "body_too_large"


async def test_a_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    async def head() -> AsyncIterator[bytes]:
        yield HEAD + b"Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n"

    answer = await exchange(server, head())
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_client_library_that_sends_too_much_reads_the_problem(server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=server.base_url) as client:
        for _ in range(20):
            refused = await client.post("/v1/requests", content=b" " * (20 * MAX_BODY_BYTES), headers=headers)
            assert_problem(refused, 413, "body_too_large")
        refused = await client.post("/v1/requests", content=b" " * 30_000_000, headers=headers)
        assert_problem(refused, 413, "body_too_large")


async def test_a_caller_that_hangs_up_in_its_body_disturbs_nobody(server: Server) -> None:
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    async with httpx2.AsyncClient(base_url=server.base_url) as client:
        assert (await client.post("/v1/requests", json=SUBMISSION)).status_code == 202


async def test_mongodb_that_is_away_is_a_503_in_time() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        async with (
            Store.connect(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0") as store,
            serve(make_app(store)) as running,
            httpx2.AsyncClient(base_url=running.base_url, timeout=20) as client,
        ):

            async def ask(method: str, path: str) -> None:
                began = monotonic()
                body = SUBMISSION if method == "POST" else None
                refused = await client.request(method, path, json=body)
                assert monotonic() - began < 8
                assert_problem(refused, 503, "store_unavailable")
                assert int(refused.headers["retry-after"]) >= 1

            await asyncio.gather(
                ask("POST", "/v1/requests"),
                ask("GET", "/v1/requests/some"),
                ask("GET", "/v1/requests/some/events"),
                ask("GET", "/readyz"),
            )
            assert (await client.get("/healthz")).status_code == 200


async def test_ready_names_the_index_that_is_missing(store: Store) -> None:
    async with (
        serve(make_app(store)) as running,
        httpx2.AsyncClient(base_url=running.base_url, timeout=20) as client,
    ):
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        await store._database["contexts"].drop_indexes()
        problem = assert_problem(await client.get("/readyz"), 503, "not_ready")
        assert "contexts" in problem["detail"]


async def test_requests_sent_at_once_with_one_key_are_one_request(store: Store) -> None:
    async with (
        serve(make_app(store)) as running,
        httpx2.AsyncClient(base_url=running.base_url, timeout=20) as client,
    ):
        headers = {"Idempotency-Key": "one"}
        sent = (client.post("/v1/requests", json=SUBMISSION, headers=headers) for _ in range(10))
        answers = await asyncio.gather(*sent)
        assert {answer.status_code for answer in answers} <= {202, 503}
        taken = [answer for answer in answers if answer.status_code == 202]
        assert len({answer.headers["location"] for answer in taken}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in taken) == 1
