"""
How a base service of the tests behaves: an async function of the call and its reply.

The functions at the end make the usual behaviours, kind and hostile ones; they can be nested.
"""

import asyncio
import gzip
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

#: How long a test waits for what must happen.
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
        return json.loads(self.body)

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
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def finish(self) -> None:
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


Behaviour: TypeAlias = Callable[[RecordedCall, Reply], Awaitable[None]]


def answer(
    value: Any = None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
    compressed: bool = False,
) -> Behaviour:
    """A whole answer at once: `value` as JSON, or `body` as it is."""
    text = json.dumps(value) if body is None else body
    content = text.encode() if isinstance(text, str) else text
    if compressed:
        content, headers = gzip.compress(content), {"Content-Encoding": "gzip", **(headers or {})}

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(status, headers, length=len(content))
        await reply.send(content)
        await reply.finish()

    return behave


def events(
    *data: Any,
    then: Behaviour | None = None,
    headers: dict[str, str] | None = None,
    before_each: Callable[[int], Awaitable[None]] | None = None,
) -> Behaviour:
    """
    An event stream: text as it is, anything else as JSON.

    `before_each` is awaited with the number of the event about to be sent; `then` goes on in the place of
    the regular end, so `then=hang()` never ends and `then=cut()` breaks off.
    """

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(200, {"Content-Type": "text/event-stream; charset=utf-8", **(headers or {})})
        for number, item in enumerate(data):
            if before_each is not None:
                await before_each(number)
            text = item if isinstance(item, str) else json.dumps(item)
            await reply.send(f"data: {text}\n\n".encode())
        await (then(call, reply) if then is not None else reply.finish())

    return behave


def stream(pieces: Iterable[bytes], *, headers: dict[str, str]) -> Behaviour:
    """A chunked body of these pieces, for as long as the client takes them."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(200, headers)
        for piece in pieces:
            await reply.send(piece)
        await reply.finish()

    return behave


def delayed(until: asyncio.Event, then: Behaviour) -> Behaviour:
    """Nothing until the event is set, then `then`."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await until.wait()
        await then(call, reply)

    return behave


def hang() -> Behaviour:
    """Nothing more, for as long as the client stays."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        reply.keep_alive = False
        await call.closed.wait()

    return behave


def cut(sent: bytes = b"") -> Behaviour:
    """These raw bytes, if any, and then the end of the connection."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.raw(sent)
        reply.cut()

    return behave


def cut_body(
    sent: bytes, *, length: int, status: int = 200, headers: dict[str, str] | None = None
) -> Behaviour:
    """A head that promises `length` bytes, only these of them, and then the end of the connection."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(status, headers, length=length)
        await reply.send(sent)
        reply.cut()

    return behave


def trickle(piece: bytes, *, every: float, headers: dict[str, str], status: int = 200) -> Behaviour:
    """The same piece again every so many seconds, until the client goes."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        reply.keep_alive = False
        await reply.start(status, headers)
        while not call.closed.is_set():
            await reply.send(piece)
            try:
                await asyncio.wait_for(call.closed.wait(), every)
            except TimeoutError:
                continue

    return behave


def redirect(to: str, *, status: int = 302) -> Behaviour:
    return answer(body="", status=status, headers={"Location": to})


def html(*, status: int = 200) -> Behaviour:
    page = "<!doctype html><html><head><title>Gateway</title></head><body>It works!</body></html>"
    return answer(body=page, status=status, headers={"Content-Type": "text/html; charset=utf-8"})


def huge(size: int) -> Behaviour:
    """A JSON text of about `size` bytes, which is not held in memory."""
    pieces = [b'{"output": "', *[b"x" * 65536] * (size // 65536), b'"}']
    return stream(pieces, headers={"Content-Type": "application/json"})


def gzip_bomb(size: int, *, layers: int = 1, content_type: str = "application/json") -> Behaviour:
    """`size` bytes of spaces, compressed once or in several layers."""
    content = _compressed_spaces(size)
    for _ in range(layers - 1):
        content = gzip.compress(content)
    encoding = ", ".join(["gzip"] * layers)
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    return stream([content[i : i + 65536] for i in range(0, len(content), 65536)], headers=headers)


@cache
def _compressed_spaces(size: int) -> bytes:
    # Piece by piece, so that the test does not hold what the client must not hold either.
    compressor = zlib.compressobj(wbits=31)
    piece = b" " * 2**20
    parts = [compressor.compress(piece) for _ in range(size // len(piece))]
    return b"".join([*parts, compressor.flush()])
