"""The gate between a client and a server: each way of misbehaving, switched while connections exist."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.gate import Direction, Gate
from tests.support.waiting import until

pytestmark = pytest.mark.harness

LIMIT = 30.0
#: Long enough for what is not delivered to have been delivered many times over.
A_WHILE = 0.2


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    """In front of a server that sends everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Gate(server.sockets[0].getsockname()[1]) as gate:
        yield gate


class Client:
    """One connection through the gate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, text: bytes) -> None:
        self._writer.write(text)

    async def hear(self, count: int) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self._reader.read()

    async def assert_silence(self) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self._reader.read(1), A_WHILE)


@asynccontextmanager
async def connected(gate: Gate) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def test_an_open_gate_relays_and_counts(gate: Gate) -> None:
    async with connected(gate) as client:
        client.say(b"hello")
        assert await client.hear(5) == b"hello"
        assert gate.alive == 1
    await until(lambda: gate.alive == 0)
    assert gate.connections == 1
    assert gate.bytes == {Direction.TO_SERVER: 5, Direction.TO_CLIENT: 5}


async def test_a_gate_that_refuses_keeps_the_connections_that_exist(gate: Gate) -> None:
    async with connected(gate) as client:
        client.say(b"a")
        assert await client.hear(1) == b"a"
        await gate.refuse()
        with pytest.raises(ConnectionRefusedError):
            async with connected(gate):
                pass
        client.say(b"b")
        assert await client.hear(1) == b"b"
    await gate.open()
    async with connected(gate) as client:
        client.say(b"c")
        assert await client.hear(1) == b"c"


async def test_a_black_hole_takes_connections_and_delivers_nothing_until_it_opens(gate: Gate) -> None:
    await gate.black_hole()
    async with connected(gate) as client:
        client.say(b"hello")
        await client.assert_silence()
        assert gate.bytes[Direction.TO_SERVER] == 0
        await gate.open()
        assert await client.hear(5) == b"hello"


@pytest.mark.parametrize(("blocked", "arrives"), [(Direction.TO_SERVER, 0), (Direction.TO_CLIENT, 5)])
async def test_a_half_open_connection_delivers_in_one_direction_only(
    gate: Gate, blocked: Direction, arrives: int
) -> None:
    async with connected(gate) as client:
        await gate.half_open(blocked)
        client.say(b"hello")
        await client.assert_silence()
        await until(lambda: gate.bytes == {Direction.TO_SERVER: arrives, Direction.TO_CLIENT: 0})
        await gate.open()
        assert await client.hear(5) == b"hello"


async def test_a_slow_gate_takes_the_time_that_the_bytes_need(gate: Gate) -> None:
    await gate.slow(delay=0.1, bytes_per_second=1000, directions=frozenset({Direction.TO_CLIENT}))
    loop = asyncio.get_running_loop()
    async with connected(gate) as client:
        began = loop.time()
        client.say(b"x" * 200)
        assert await client.hear(200) == b"x" * 200
        assert loop.time() - began >= 0.25


async def test_a_reset_reaches_both_ends_and_goes_on_until_the_gate_opens(gate: Gate) -> None:
    async with connected(gate) as client:
        client.say(b"a")
        assert await client.hear(1) == b"a"
        await gate.reset()
        with pytest.raises(ConnectionResetError):
            await client.rest()
    async with connected(gate) as client:
        with pytest.raises(ConnectionResetError):
            await client.rest()
    await gate.open()
    async with connected(gate) as client:
        client.say(b"b")
        assert await client.hear(1) == b"b"


async def test_a_gate_closes_after_as_many_bytes_as_it_was_told(gate: Gate) -> None:
    async with connected(gate) as client:
        client.say(b"before")
        assert await client.hear(6) == b"before"
        await gate.close_after(3, Direction.TO_CLIENT)
        client.say(b"hello")
        assert await client.rest() == b"hel"


async def test_a_gate_can_close_on_the_next_data_and_deliver_none_of_it(gate: Gate) -> None:
    async with connected(gate) as client:
        await gate.close_after(0, Direction.TO_SERVER)
        client.say(b"hello")
        assert await client.rest() == b""
    assert gate.bytes[Direction.TO_SERVER] == 0


async def test_a_gate_without_a_server_behind_it_resets(gate: Gate) -> None:
    async with Gate(9) as broken, connected(broken) as client:
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_mongodb_is_spoken_to_through_the_gate_and_through_it_only(mongodb_uri: str) -> None:
    port = int(mongodb_uri.split(":")[2].split("/")[0])
    async with Gate(port) as gate, AsyncMongoClient[dict[str, object]](gate.mongodb_uri) as client:
        await client.admin.command("ping")
        before = gate.bytes[Direction.TO_SERVER]
        await client.admin.command("ping")
        assert gate.bytes[Direction.TO_SERVER] > before
