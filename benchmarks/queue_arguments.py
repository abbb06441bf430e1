"""QueueArguments: what a process that measures another queue is told, and how it runs."""

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agent_service.main import new_event_loop


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueArguments:
    """The server of the queue, and how many calls of the base service, if there is one, so many at a time."""

    server: str
    base_url: str | None
    calls: int
    concurrency: int


def run_queue(description: str, measure: Callable[[QueueArguments], Coroutine[Any, Any, None]]) -> None:
    """Measure as the arguments of the process say."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("server")
    parser.add_argument("--base-url")
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = QueueArguments(**vars(parser.parse_args()))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(measure(arguments))
