"""
A worker whose handler returns at once: `python -m benchmarks.noop_worker --concurrency 32`.

It is a worker of a user's own in everything else, and finds MongoDB where every other one does.
"""

import argparse
import asyncio
from typing import ClassVar

from agent_service import ClientWorker
from agent_service import main as composition
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.settings import load_settings
from agent_service.telemetry.logging import configure_logging

SERVICE = "noop"


class NoopWorker(ClientWorker):
    """Does nothing, so that all that is measured is the queue."""

    service: ClassVar[str] = SERVICE

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Answer at once."""
        return BaseServiceAnswer(output={"text": "done"})


async def work(concurrency: int, queue: str) -> None:
    """Work until cancelled."""
    settings = load_settings()
    async with composition.connected(settings) as store:
        worker = NoopWorker(store, concurrency=concurrency, queues=(queue,))
        await worker.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await worker.stop()


def main() -> None:
    """Work until a signal comes."""
    parser = argparse.ArgumentParser(description="a worker that does nothing")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--queue", default="default")
    options = parser.parse_args()
    configure_logging(level="WARNING", format="console")
    raise SystemExit(composition.run(work(options.concurrency, options.queue)))


if __name__ == "__main__":
    main()
