"""
Gate: a TCP relay between a client and a server that can be made to misbehave while it runs.

    async with Gate(server_port) as gate:
        ...                       # the client speaks to gate.port
        await gate.black_hole()   # from now on nothing comes through, and nobody is told
        await gate.open()

To MongoDB a gate leads to a one-node set (the fixture `mongodb_uri`), with `directConnection=true` in the
client's address: `gate.mongodb_uri` is that address. What has been read of a connection when the gate changes
is delivered when it opens again, as a network would that only delayed it.
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Self

HOST = "127.0.0.1"
_MOST_AT_ONCE = 64 * 1024


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = auto()
    TO_CLIENT = auto()


BOTH = frozenset(Direction)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What happens to the bytes of one direction."""

    passes: bool = True
    #: Seconds before each piece.
    delay: float = 0
    #: None: as fast as it goes.
    bytes_per_second: float | None = None
    #: The connection closes once so many more bytes have gone this way; None: never.
    closes_after: int | None = None


@dataclass(eq=False, slots=True)
class _Connection:
    """One client and its connection to the server."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    #: Bytes that went through since the gate last changed.
    passed: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(Direction, 0))

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def reset(self) -> None:
        """RST to both ends."""
        for writer in self.writers:
            connection = writer.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Gate:
    """
    Listens on a free port of 127.0.0.1 and relays to `server_port`; open at first.

    `connections` counts what was accepted, `bytes` what was relayed in each direction.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self.connections = 0
        self.bytes = dict.fromkeys(Direction, 0)
        self._ways = dict.fromkeys(Direction, _Way())
        self._resets = False
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._alive: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def mongodb_uri(self) -> str:
        """Its address for a client of the one-node set behind it."""
        return f"mongodb://{HOST}:{self.port}/?directConnection=true"

    @property
    def alive(self) -> int:
        """How many connections there are now."""
        return len(self._alive)

    async def open(self) -> None:
        """Relay everything, at once; what was held back goes first."""
        await self._become()

    async def refuse(self) -> None:
        """Take no new connections; those that exist go on."""
        await self._become(listening=False)

    async def black_hole(self) -> None:
        """Take connections, read nothing, deliver nothing, close nothing."""
        await self._become(dict.fromkeys(Direction, _Way(passes=False)))

    async def half_open(self, blocked: Direction) -> None:
        """Deliver nothing in one direction, everything in the other."""
        await self._become({blocked: _Way(passes=False)})

    async def slow(
        self,
        *,
        delay: float = 0,
        bytes_per_second: float | None = None,
        directions: frozenset[Direction] = BOTH,
    ) -> None:
        """Deliver each piece `delay` seconds late, and no more than so many bytes a second."""
        way = _Way(delay=delay, bytes_per_second=bytes_per_second)
        await self._become(dict.fromkeys(directions, way))

    async def reset(self) -> None:
        """Reset every connection, and each new one as soon as it is there, until the gate changes."""
        await self._become(resets=True)
        self.reset_connections()

    async def close_after(self, count: int, direction: Direction) -> None:
        """
        Close each connection once `count` bytes have gone this way, counted from now; the rest is lost.

        With 0 it closes on the next data, none of which is delivered.
        """
        await self._become({direction: _Way(closes_after=count)})

    def reset_connections(self) -> None:
        """Reset the connections that exist, once."""
        for connection in list(self._alive):
            connection.reset()

    def close_connections(self) -> None:
        """Close the connections that exist, once."""
        for connection in list(self._alive):
            connection.close()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.reset_connections()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _become(
        self, ways: dict[Direction, _Way] | None = None, *, listening: bool = True, resets: bool = False
    ) -> None:
        self._ways = {**dict.fromkeys(Direction, _Way()), **(ways or {})}
        self._resets = resets
        for connection in self._alive:
            connection.passed = dict.fromkeys(Direction, 0)
        if self._server is not None and not listening:
            self._server.close()
            self._server = None
        elif self._server is None and listening:
            await self._listen()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        _ = self._spawn(self._relay(reader, writer))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection([writer])
        self._alive.add(connection)
        try:
            if self._resets:
                connection.reset()
                return
            try:
                there, back = await asyncio.open_connection(HOST, self.server_port)
            except OSError:
                connection.reset()
                return
            connection.writers.append(back)
            pumps = {
                self._spawn(self._pump(connection, reader, back, Direction.TO_SERVER)),
                self._spawn(self._pump(connection, there, writer, Direction.TO_CLIENT)),
            }
            await asyncio.wait(pumps)
        finally:
            connection.close()
            self._alive.discard(connection)

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        try:
            while True:
                await self._until_it_passes(direction)
                data = await reader.read(_MOST_AT_ONCE)
                await self._until_it_passes(direction)
                if not data:
                    writer.write_eof()
                    return
                if not await self._deliver(connection, data, writer, direction):
                    connection.close()
                    return
        except (OSError, RuntimeError):
            # The other end is gone, with or without a word.
            connection.close()

    async def _until_it_passes(self, direction: Direction) -> None:
        while not self._ways[direction].passes:
            await self._changed.wait()

    async def _deliver(
        self, connection: _Connection, data: bytes, writer: asyncio.StreamWriter, direction: Direction
    ) -> bool:
        """Send it on as the gate does now; False if the connection has to close."""
        way = self._ways[direction]
        if way.closes_after is not None:
            data = data[: max(way.closes_after - connection.passed[direction], 0)]
        if way.delay:
            await asyncio.sleep(way.delay)
        step = len(data) if way.bytes_per_second is None else max(1, int(way.bytes_per_second / 20))
        for start in range(0, len(data), step or 1):
            piece = data[start : start + step]
            writer.write(piece)
            await writer.drain()
            self.bytes[direction] += len(piece)
            connection.passed[direction] += len(piece)
            if way.bytes_per_second is not None and self._ways[direction] is way:
                await asyncio.sleep(len(piece) / way.bytes_per_second)
        return way.closes_after is None or connection.passed[direction] < way.closes_after
