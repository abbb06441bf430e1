"""Where a request ends: what nobody can be sure of is refused, so that nothing is smuggled past a proxy."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from agent_service.local.servers import Server, serve

#: So long a client may wait for anything here, in seconds.
LIMIT = 60
POST = b"POST /first HTTP/1.1\r\nHost: api\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
#: What an attacker hopes is taken for the next request.
NEXT = b"GET /next HTTP/1.1\r\nHost: api\r\n\r\n"
#: Ends the connection after its answer.
LAST = b"GET /last HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n"


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, the bytes of the body, and the names of the headers, read after the body."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    told = json.dumps([scope["path"], len(body), [name.decode() for name, _ in scope["headers"]]]).encode()
    headers = [(b"content-length", str(len(told)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(tell) as running:
        yield running


async def answers_to(server: Server, sent: bytes) -> bytes:
    """Everything that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent)
    async with asyncio.timeout(LIMIT):
        answers = await reader.read()
    writer.close()
    return answers


def served(answers: bytes) -> list[object]:
    """What the answers of 200 say, one after the other."""
    found = []
    for answer in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]:
        found.append(json.loads(answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0]))
    return found


@pytest.mark.parametrize(
    "sent",
    {
        "a length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 36\r\n\r\n",
        "two lengths in one": POST + b"Content-Length: 0, 36\r\n\r\n",
        "a signed length": POST + b"Content-Length: +5\r\n\r\nhello",
        "a length that is no number": POST + b"Content-Length: 0x5\r\n\r\nhello",
        "an empty length": POST + b"Content-Length: \r\n\r\n",
        "a space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
        "chunks of something else": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "chunks and then something else": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "almost chunks": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "chunks before HTTP/1.1": CHUNKED.replace(b"/1.1", b"/1.0") + b"0\r\n\r\n",
        "a chunk without a size": CHUNKED + b";a=b\r\nhello\r\n0\r\n\r\n",
        "a chunk with a signed size": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
        "a chunk longer than its size": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
        "a line feed after an extension": CHUNKED + b"5;a\nhello\r\n0\r\n\r\n",
        "a carriage return in a value": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
        "a NUL in a value": POST + b"X: a\0b\r\n\r\n",
        "a header before the first": b"POST /first HTTP/1.1\r\n X: a\r\nHost: api\r\n\r\n",
        "no host": b"GET /first HTTP/1.1\r\n\r\n",
        "two hosts": b"GET /first HTTP/1.1\r\nHost: api\r\nHost: other\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/0.9": b"GET /first\r\n\r\n",
        "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
    }.items(),
    ids=lambda item: item[0],
)
async def test_what_is_ambiguous_is_refused_and_nothing_after_it_is_served(
    server: Server, sent: tuple[str, bytes]
) -> None:
    answers = await answers_to(server, sent[1] + NEXT)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert served(answers) == []


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (POST + b"Content-Length: 5\r\n\r\nhello", 5),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 5),
        (CHUNKED + b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 6),
        (POST + b"\r\n", 0),
    ],
)
async def test_what_is_not_ambiguous_ends_where_it_says(server: Server, sent: bytes, size: int) -> None:
    answers = served(await answers_to(server, sent + LAST))
    assert [answer[:2] for answer in answers] == [["/first", size], ["/last", 0]]  # type: ignore[index]  # lists


async def test_what_comes_after_a_body_is_no_header(server: Server) -> None:
    trailers = b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\nContent-Length: 3\r\n\r\n"
    answers = served(await answers_to(server, CHUNKED + trailers + LAST))
    assert answers == [["/first", 5, ["host", "transfer-encoding"]], ["/last", 0, ["host", "connection"]]]


async def test_requests_that_are_sent_together_are_answered_in_their_order(server: Server) -> None:
    answers = served(await answers_to(server, NEXT * 5 + LAST))
    assert [answer[0] for answer in answers] == ["/next"] * 5 + ["/last"]  # type: ignore[index]  # lists


async def test_a_client_of_the_first_version_is_answered_once(server: Server) -> None:
    old = b"GET /first HTTP/1.0\r\n\r\n"
    assert served(await answers_to(server, old + old)) == [["/first", 0, []]]


async def test_an_upgrade_that_is_not_known_is_passed_over_and_the_body_read(server: Server) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answers = served(await answers_to(server, POST + upgrade + b"Content-Length: 5\r\n\r\nhello" + LAST))
    assert [answer[:2] for answer in answers] == [["/first", 5], ["/last", 0]]  # type: ignore[index]  # lists


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET / HTTP/1.1\r\nHost: api\r\n", b"a: b\r\n"),
        (b"GET / HTTP/1.1\r\nHost: api\r\nX: ", b"x"),
        (b"GET /", b"x"),
        (CHUNKED + b"0\r\n", b"a: b\r\n"),
        (CHUNKED + b"5;", b"x"),
    ],
    ids=["headers", "a header", "a path", "trailers", "an extension of a chunk"],
)
async def test_a_head_without_an_end_is_refused(server: Server, begin: bytes, more: bytes) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(begin + more * (2**20 // len(more)))
    async with asyncio.timeout(LIMIT):
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HEAD / HTTP/1.1\r\nHost: api\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HEAD / HTTP/2.0\r\nHost: api\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: api\r\nHost: other\r\n\r\n",
    ],
)
async def test_a_head_request_that_is_refused_gets_its_answer_too(server: Server, head: bytes) -> None:
    answers = await answers_to(server, head)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.endswith(b"\r\n\r\n")
