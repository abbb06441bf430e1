"""
A worker whose handler returns at once: `python -m benchmarks.noop_worker --concurrency 32`.

It is a worker of a user's own in everything else, and finds MongoDB where every other one does.
"""

import argparse
import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

from agent_service import ClientWorker
from agent_service import main as composition
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.settings import load_settings
from agent_service.telemetry.logging import configure_logging
from benchmarks.claim_record import ClaimRecord

SERVICE = "noop"


class NoopWorker(ClientWorker):
    """Does nothing, so that all that is measured is the queue."""

    service: ClassVar[str] = SERVICE

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Answer at once."""
        return BaseServiceAnswer(output={"text": "done"})


class RecordedWorker(NoopWorker):
    """Does nothing either, and notes when it was called."""

    record: ClassVar[ClaimRecord] = ClaimRecord()

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Note the call and answer at once."""
        self.record.called()
        return await super().handle(call, on_delta)


async def work(concurrency: int, queue: str, record: Path | None) -> None:
    """Work until cancelled; with a file, what was recorded is in it then."""
    settings = load_settings()
    kind = NoopWorker if record is None else RecordedWorker
    async with composition.connected(settings) as store:
        worker = kind(store, concurrency=concurrency, queues=(queue,))
        with nullcontext() if record is None else RecordedWorker.record.recording():
            await worker.start()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await worker.stop()
                if record is not None:
                    RecordedWorker.record.write(record)


def main() -> None:
    """Work until a signal comes."""
    parser = argparse.ArgumentParser(description="a worker that does nothing")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--queue", default="default")
    parser.add_argument("--record", type=Path, help="a file for what it claimed when, and how long that took")
    options = parser.parse_args()
    configure_logging(level="WARNING", format="console")
    raise SystemExit(composition.run(work(options.concurrency, options.queue, options.record)))


if __name__ == "__main__":
    main()
