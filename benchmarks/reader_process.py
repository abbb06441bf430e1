"""
Readers of event streams, many in one process: `python -m benchmarks.reader_process PORT READERS ID …`.

Each request is read by as many as the others. It says `reading` once every reader has had its first event,
and when all streams have ended how long pieces took, which say themselves when they were sent.
"""

import argparse
import asyncio
import json
import re
import time
from functools import partial
from typing import cast

from agent_service.main import new_event_loop
from benchmarks.figures import percentile

_PIECES = re.compile(rb'"delta":"([0-9. ]+)"')
_ENDED = b"event: request.completed\n"
_LIMIT_SECONDS = 240


class StreamReader(asyncio.Protocol):
    """One connection, which asks for one stream; frames may come cut in any way."""

    def __init__(self, request_id: str, delays: list[float]) -> None:
        self._ask = f"GET /v1/requests/{request_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self._delays = delays
        self._rest = b""
        loop = asyncio.get_running_loop()
        self.began: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[bool] = loop.create_future()
        #: How many pieces came.
        self.pieces = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A TCP client makes no other kind; uvloop's is none of asyncio's classes.
        cast("asyncio.Transport", transport).write(self._ask)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        whole, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        if not whole:
            return
        for found in _PIECES.finditer(whole):
            sent = [float(number) for number in found[1].split()]
            self.pieces += len(sent)
            self._delays += [now - each for each in sent]
        if not self.began.done() and b"event: " in whole:
            self.began.set_result(None)
        if _ENDED in whole and not self.ended.done():
            self.ended.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.began.done():
            self.began.set_result(None)
        if not self.ended.done():
            self.ended.set_result(False)


async def _read(port: int, readers: int, request_ids: list[str]) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    refused = 0

    async def connect(number: int) -> StreamReader:
        """Again and again, as clients do that are told to come back."""
        nonlocal refused
        make = partial(StreamReader, request_ids[number % len(request_ids)], delays)
        while True:
            _, reader = await loop.create_connection(make, "127.0.0.1", port)
            await reader.began
            if not reader.ended.done():
                return reader
            refused += 1

    async with asyncio.timeout(_LIMIT_SECONDS):
        connected = await asyncio.gather(*map(connect, range(readers)))
        print("reading", flush=True)
        ended = await asyncio.gather(*(reader.ended for reader in connected))
    return {
        "refused": float(refused),
        "whole": float(sum(ended)),
        "fewest": float(min(reader.pieces for reader in connected)),
        "pieces": float(len(delays)),
        "p50": percentile(delays, 0.5),
        "p99": percentile(delays, 0.99),
    }


def main() -> None:
    """Read until all streams have ended, and print what came of it."""
    parser = argparse.ArgumentParser(description="the readers of the benchmarks")
    parser.add_argument("port", type=int)
    parser.add_argument("readers", type=int)
    parser.add_argument("request_ids", nargs="+")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(_read(arguments.port, arguments.readers, arguments.request_ids))))


if __name__ == "__main__":
    main()
