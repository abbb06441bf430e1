"""
The base service of the benchmarks: `python -m benchmarks.stub_service --delay-ms 20`.

It answers every `POST /execute` after the delay and does as little as it can for it, so that what is measured
is whoever calls it. With `--record` it keeps when calls arrived and when their connections were closed before
an answer; `GET /` hands that over and forgets it. `--text-bytes` is how long its outputs are.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import cast

from agent_service.main import new_event_loop

_TEXT = "done"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(slots=True)
class Record:
    """What happened, as (monotonic seconds, request body); the clock is the machine's, so others share it."""

    received: list[tuple[float, bytes]] = field(default_factory=list)
    closed: list[tuple[float, bytes]] = field(default_factory=list)

    def hand_over(self) -> bytes:
        """All of it as JSON, by the id of the context; nothing is left."""
        answer = {"received": _by_context(self.received), "closed": _by_context(self.closed)}
        self.received, self.closed = [], []
        return json.dumps(answer).encode()


class StubConnection(asyncio.Protocol):
    """One keep-alive connection; one call at a time, as HTTP/1.1 without pipelining has it."""

    def __init__(self, delay: float, record: Record | None, *, text: str = _TEXT) -> None:
        self._delay = delay
        body = json.dumps({"output": {"text": text}}, separators=(",", ":")).encode()
        self._whole_answer = _ANSWER % (len(body), body)
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._answering: asyncio.TimerHandle | None = None
        self._call = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A TCP server makes no other kind; uvloop's is none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head_ends = buffer.find(_HEAD_END)
        if head_ends >= 0:
            body_starts = head_ends + len(_HEAD_END)
            ends = body_starts + _content_length(buffer[:head_ends])
            if len(buffer) >= ends:
                self._buffer = buffer[ends:]
                self._take(is_call=buffer.startswith(b"POST"), body=buffer[body_starts:ends])
                return
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()
            if self._record is not None:
                self._record.closed.append((time.monotonic(), self._call))

    def _take(self, *, is_call: bool, body: bytes) -> None:
        if not is_call:
            kept = b"{}" if self._record is None else self._record.hand_over()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(kept), kept))
            return
        if self._record is not None:
            self._call = body
            self._record.received.append((time.monotonic(), body))
        self._answering = self._loop.call_later(self._delay, self._answer)

    def _answer(self) -> None:
        self._answering = None
        self._transport.write(self._whole_answer)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    found = lowered.find(_LENGTH)
    if found < 0:
        return 0
    value = lowered[found + len(_LENGTH) :].partition(b"\r\n")[0]
    return int(value)


def _by_context(happened: list[tuple[float, bytes]]) -> dict[str, float]:
    return {json.loads(body)["context_id"]: at for at, body in happened}


async def _serve(delay: float, text: str, *, record: bool) -> None:
    kept = Record() if record else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: StubConnection(delay, kept, text=text), "127.0.0.1", 0, backlog=1024
    )
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="the base service of the benchmarks")
    parser.add_argument("--delay-ms", type=float, required=True)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--text-bytes", type=int)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        text = _TEXT if arguments.text_bytes is None else "x" * arguments.text_bytes
        runner.run(_serve(arguments.delay_ms / 1_000, text, record=arguments.record))


if __name__ == "__main__":
    main()
