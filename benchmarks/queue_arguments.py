"""QueueArguments: what a process that measures another queue is told, and how it runs."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent_service.main import new_event_loop
from benchmarks.pace import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueArguments:
    """The server of the queue, and how many calls of the base service, if there is one, so many at a time."""

    server: str
    base_url: str | None
    calls: int
    concurrency: int


def run_queue(description: str, measure: Callable[[QueueArguments], Awaitable[Pace]]) -> None:
    """Measure as the arguments of the process say, and tell the pace."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("server")
    parser.add_argument("--base-url")
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = QueueArguments(**vars(parser.parse_args()))

    async def run() -> None:
        (await measure(arguments)).tell()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())
