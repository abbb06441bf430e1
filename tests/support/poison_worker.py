"""A worker process that the step `poison` kills, together with all who run beside it: `URI DATABASE`."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.store import Store
from agent_service.workers.worker_base import ClientWorker
from tests.support.waiting import until

NEIGHBOURS = 20
#: For so many attempts poison waits for all of its neighbours, and they for it.
PATIENT_ATTEMPTS = 2
#: Seconds that they wait for each other then, and later.
PATIENCE, WORK = 8.0, 0.4


class PoisonWorker(ClientWorker):
    """Runs poison and neighbours."""

    service: ClassVar[str] = "generation"
    steps: ClassVar[set[str]] = set()

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Kill the process, be killed with it, or answer."""
        patient = call.attempt <= PATIENT_ATTEMPTS
        self.steps.add(call.step)
        if call.step == "poison":
            company = NEIGHBOURS if patient else 1
            await happens(lambda: len(self.steps) > company, PATIENCE if patient else WORK)
            os.kill(os.getpid(), signal.SIGKILL)
        if await happens(lambda: "poison" in self.steps, PATIENCE if patient else WORK):
            # What comes now is death.
            await asyncio.Event().wait()
        self.steps.discard(call.step)
        return BaseServiceAnswer(output="done")


async def happens(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition, but not for ever; says whether it came true."""
    with suppress(AssertionError):
        await until(condition, seconds=seconds)
    return condition()


async def main(uri: str, database: str) -> None:
    """Work until killed."""
    async with Store.connect(uri, database=database) as store:
        worker = PoisonWorker(store, concurrency=NEIGHBOURS + 1, lease_seconds=3, timeout=60)
        await worker.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
