"""
Behaviours of a base service that no user needs: hostile ones, for the client that has to withstand them.

Those of `agent_service.testing` can be had from here too.
"""

import asyncio
import gzip
import struct
import zlib
from collections.abc import Iterable
from functools import cache

from agent_service.testing.behaviours import answer, delayed, events, hang
from agent_service.testing.calls import DEADLINE_SECONDS, Behaviour, RecordedCall, Reply

__all__ = [
    "DEADLINE_SECONDS",
    "Behaviour",
    "RecordedCall",
    "Reply",
    "answer",
    "cut",
    "cut_body",
    "delayed",
    "events",
    "gzip_bomb",
    "hang",
    "html",
    "huge",
    "redirect",
    "stream",
    "trickle",
]


def stream(pieces: Iterable[bytes], *, headers: dict[str, str]) -> Behaviour:
    """A chunked body of these pieces, for as long as the client takes them."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(200, headers)
        for piece in pieces:
            await reply.send(piece)
        await reply.finish()

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
    # The same piece over and over, so that neither its text is in memory as a whole nor much is to compress.
    piece = b" " * 2**20
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    compressed = compressor.compress(piece) + compressor.flush(zlib.Z_FULL_FLUSH)
    count, checksum = size // len(piece), 0
    for _ in range(count):
        checksum = zlib.crc32(piece, checksum)
    # The head says gzip and nothing more; the end is an empty last block, checksum and length.
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    end = compressor.flush() + struct.pack("<II", checksum, count * len(piece) % 2**32)
    return head + compressed * count + end
