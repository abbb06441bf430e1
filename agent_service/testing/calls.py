"""RecordedCall and Reply: one call to a scripted base service as it arrived, and the answer being written."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: How long, in seconds, whoever waits for a call or for its end waits at most.
DEADLINE_SECONDS = 10.0


@dataclass
class RecordedCall:
    """One request as it arrived. Header names are in lower case; `connection` numbers the sockets from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    #: Set when the client closes the connection of this call, during the call or after it.
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> Any:
        """The body; what it is, is the caller's affair."""
        return json.loads(self.body)

    @property
    def service(self) -> str:
        """The service that was called: the first part of the path, see `ScriptedBaseService.url_for`."""
        return self.path.strip("/").partition("/")[0]

    @property
    def step(self) -> str:
        """The name of the step that the call is for."""
        return str(self.json()["step"])

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        return int(self.json()["attempt"])

    @property
    def input(self) -> Any:
        """The input of the step, its templates resolved."""
        return self.json()["input"]

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of a step."""
        return self.headers.get("idempotency-key", "")

    async def wait_closed(self) -> None:
        """Return when the client has closed the connection; TimeoutError when it does not."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.closed.wait()


class Reply:
    """The answer of one call, written step by step."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = False
        self.keep_alive = True

    async def start(
        self, status: int = 200, headers: dict[str, str] | None = None, *, length: int | None = None
    ) -> None:
        """Send the head: of a chunked body, or of one with the given length."""
        self._chunked = length is None
        framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        fields = {"Content-Type": "application/json", **framing, **(headers or {})}
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields.items())]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """A part of the body."""
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def finish(self) -> None:
        """The end of the body."""
        if self._chunked:
            await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        """Bytes as they are; what HTTP says of them is the test's affair."""
        self._writer.write(data)
        await self._writer.drain()

    def cut(self) -> None:
        """Close the connection after what was sent, in the middle of whatever it is."""
        self.keep_alive = False
        self._writer.close()

    def reset(self) -> None:
        """Reset the connection (RST): what was sent and not yet read is lost."""
        self.keep_alive = False
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


#: How a base service behaves in one call: an async function of the call and of its reply.
Behaviour: TypeAlias = Callable[[RecordedCall, Reply], Awaitable[None]]
