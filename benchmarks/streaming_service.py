"""
A base service that streams: `python -m benchmarks.streaming_service --pieces 200 --every-ms 50`.

Every piece of text is the time at which it was sent, in seconds of the machine's monotonic clock, so whoever
gets it knows how long it took.
"""

import argparse
import asyncio
import json
import time

from aiohttp import web

from agent_service.main import new_event_loop


def piece_now() -> str:
    """A piece of output that says when it was sent."""
    return f"{time.monotonic():.6f} "


def application(pieces: int, every: float) -> web.Application:
    """Answers each `POST /execute` with so many pieces, `every` so many seconds one."""

    async def execute(call: web.Request) -> web.StreamResponse:
        await call.read()
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(call)
        began = time.monotonic()
        for number in range(1, pieces + 1):
            await asyncio.sleep(began + number * every - time.monotonic())
            await answer.write(_event({"delta": piece_now()}))
        await answer.write(_event({"output": "done"}))
        await answer.write_eof()
        return answer

    app = web.Application()
    app.router.add_post("/execute", execute)
    return app


def _event(data: dict[str, str]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


async def _serve(pieces: int, every: float) -> None:
    runner = web.AppRunner(application(pieces, every), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening on {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="the streaming base service of the benchmarks")
    parser.add_argument("--pieces", type=int, required=True)
    parser.add_argument("--every-ms", type=float, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(arguments.pieces, arguments.every_ms / 1_000))


if __name__ == "__main__":
    main()
