"""What clients may have a server hold before anybody knows who they are: heads, time and connections."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from starlette.types import Receive, Scope, Send

from agent_service.local import lingering
from agent_service.local.connection_limits import ConnectionLimits
from agent_service.local.servers import Server, serve
from agent_service.telemetry.spaced import Spaced
from tests.integration.test_http_framing import LAST, LIMIT, answers_to, served, tell
from tests.integration.test_lingering import refuse
from tests.support.log_lines import log_lines
from tests.support.waiting import until

FIRST = b"GET /first HTTP/1.1\r\nHost: api\r\n"
SHORT = ConnectionLimits(head_timeout=timedelta(seconds=1))


@pytest.mark.parametrize("headers", [98, 99, 100])
async def test_a_head_has_a_hundred_headers_at_most(headers: int) -> None:
    async with serve(tell) as server:
        answers = await answers_to(server, FIRST + b"X: y\r\n" * headers + b"Connection: close\r\n\r\n")
    # Host and Connection are two more.
    assert answers.startswith(b"HTTP/1.1 200 " if headers == 98 else b"HTTP/1.1 431 ")


@pytest.mark.parametrize("place", ["header", "path", "method"])
@pytest.mark.parametrize(("size", "status"), [(1_800, 200), (2_100, 431), (200_000, 431)])
async def test_a_head_that_comes_in_one_piece_has_a_limit_too(size: int, status: int, place: str) -> None:
    filler = b"x" * size
    head = {
        "header": FIRST + b"X: " + filler + b"\r\n",
        "path": FIRST.replace(b"/first", b"/" + filler),
        "method": FIRST.replace(b"GET", filler),
    }[place]
    async with serve(tell, limits=ConnectionLimits(head_bytes=2_048)) as server:
        answers = await answers_to(server, head + b"Connection: close\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("begun", [b"G", FIRST], ids=["a byte", "half of it"])
async def test_a_head_that_does_not_come_in_time_is_given_up(begun: bytes) -> None:
    async with serve(tell, limits=SHORT) as server:
        assert (await answers_to(server, begun)).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_on_which_nothing_comes_is_closed_without_an_answer() -> None:
    async with serve(tell, limits=SHORT) as server:
        assert await answers_to(server, b"") == b""


async def test_who_sends_the_rest_of_a_body_after_its_answer_does_not_wait_for_ever_either() -> None:
    async with serve(refuse, limits=SHORT) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /keep HTTP/1.1\r\nHost: api\r\nContent-Length: 5\r\n\r\nhe")
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"refused")
            writer.write(b"llo")
            assert await reader.read() == b""
        writer.close()


async def test_what_is_wrong_after_the_answer_has_no_other_and_is_no_fault_of_the_server() -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    async with serve(refuse) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /keep HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"refused")
            writer.write(b"no size\r\n")
            assert await reader.read() == b""
        writer.close()
    assert faults == []


async def test_a_head_that_comes_byte_by_byte_is_given_up_as_well() -> None:
    async with serve(tell, limits=SHORT) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)

        async def drip() -> None:
            for byte in FIRST * 100:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(LIMIT):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        writer.close()


async def test_the_head_after_an_answer_has_its_own_time_and_a_body_has_none_of_it() -> None:
    async with serve(tell, limits=SHORT) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /first HTTP/1.1\r\nHost: api\r\nContent-Length: 5\r\n\r\nhe")
        await asyncio.sleep(2 * SHORT.head_timeout.total_seconds())
        writer.write(b"llo")
        async with asyncio.timeout(LIMIT):
            assert (await reader.readuntil(b"]]")).startswith(b"HTTP/1.1 200 ")
            writer.write(b"GET /next")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_more_connections_than_are_allowed_are_refused_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "_too_many", Spaced(timedelta(minutes=1)))
    async with serve(tell, limits=ConnectionLimits(connections=2)) as server:
        held = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
        with log_lines() as lines:
            for _ in range(3):
                assert (await answers_to(server, LAST)).startswith(b"HTTP/1.1 503 ")
        assert len([line for line in lines if "API_MAX_CONNECTIONS" in str(line)]) == 1
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        is_served: list[object] = await until(lambda: _served(server), seconds=LIMIT)
        assert is_served


async def _served(server: Server) -> list[object]:
    return served(await answers_to(server, LAST))


async def test_connections_that_are_turned_away_take_no_place_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # They stay as long as their clients do not close.
    monkeypatch.setattr(lingering, "LINGER_WITHIN", timedelta(seconds=LIMIT))
    async with serve(tell, limits=ConnectionLimits(connections=2)) as server:
        held = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
        turned_away = [await asyncio.open_connection(server.host, server.port) for _ in range(5)]
        async with asyncio.timeout(LIMIT):
            for reader, _ in turned_away:
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: 1" in answer.lower()
        held[0][1].close()
        await held[0][1].wait_closed()
        is_served: list[object] = await until(lambda: _served(server), seconds=LIMIT)
        assert is_served
        for _, writer in (*held, *turned_away):
            writer.close()


async def test_who_does_not_take_what_was_sent_is_cut_off() -> None:
    ended = asyncio.Event()

    async def tell_much(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await tell(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    limits = ConnectionLimits(take_timeout=timedelta(seconds=0.1))
    async with serve(tell_much, limits=limits) as server:
        _, writer = await asyncio.open_connection(server.host, server.port, limit=1)
        writer.write(LAST)
        async with asyncio.timeout(LIMIT):
            await ended.wait()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_the_time_of_a_head_begins_with_its_first_byte() -> None:
    async with serve(tell, limits=SHORT) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        await asyncio.sleep(SHORT.head_timeout.total_seconds() * 0.7)
        writer.write(LAST[:10])
        await asyncio.sleep(SHORT.head_timeout.total_seconds() * 0.7)
        writer.write(LAST[10:])
        async with asyncio.timeout(LIMIT):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_refusal_is_read_by_who_has_sent_more_already() -> None:
    async with serve(tell) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(FIRST + b"X: y\r\n" * 101 + b"\r\n")
        async with asyncio.timeout(LIMIT):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")
            writer.write(LAST * 100)
            # A connection that was reset would raise here.
            assert await reader.read() == b""
        writer.close()


async def test_connections_far_above_their_limit_are_closed_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "MOST_TOLD", 1)
    async with serve(tell, limits=ConnectionLimits(connections=1)) as server:
        held = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
        assert await answers_to(server, b"") == b""
        for _, writer in held:
            writer.close()
