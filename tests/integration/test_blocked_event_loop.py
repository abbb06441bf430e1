"""A handler that holds up its event loop past its lease: its work is taken over and its write refused."""

import asyncio
import threading
from functools import partial

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.store import Store
from tests.support.waiting import until
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    HandlerWorker,
    by_step,
    ended,
    read,
    running,
    submit,
    the_run,
)

LEASE_SECONDS = 2


class BlockedProcess:
    """A worker on an event loop of its own, in a thread, as it would be in a process of its own."""

    def __init__(self, uri: str, database: str) -> None:
        self._uri, self._database = uri, database
        self.blocked, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.worker_id = ""
        self.lag = 0.0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def _live(self) -> None:
        async with Store.connect(self._uri, database=self._database) as store:
            worker = HandlerWorker(store, self._block, lease_seconds=LEASE_SECONDS)
            self.worker_id = worker.id
            await worker.start()
            await until(self.go_on.is_set, seconds=3 * DEADLINE_SECONDS)
            await until(lambda: len(the_run(worker)._attempts) == 0)
            await until(lambda: the_run(worker)._upkeep.lag.worst().total_seconds() > 0)
            self.lag = the_run(worker)._upkeep.lag.worst().total_seconds()
            await worker.stop()
        self.ended.set()

    async def _block(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        self.blocked.set()
        # Nothing else runs on this event loop meanwhile: no renewal, no timer, no write.
        self.go_on.wait(2 * DEADLINE_SECONDS)
        return BaseServiceAnswer(output="late")


@pytest.mark.timeout(120)
async def test_the_write_of_a_handler_that_blocked_its_loop_past_its_lease_is_refused(
    mongodb_uri: str, database_name: str, store: Store, warnings: list[str]
) -> None:
    async def work(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        return BaseServiceAnswer(output="in time")

    process = BlockedProcess(mongodb_uri, database_name)
    request_id = await submit(store)
    process.start()
    try:
        await until(process.blocked.is_set)
        async with running(HandlerWorker(store, work, lease_seconds=2 * LEASE_SECONDS)):
            first = by_step(await ended(store, request_id))["draft"]
        assert (first.status, first.output, first.attempt) == (ContextStatus.COMPLETED, "in time", 2)
        assert [record.outcome for record in first.history] == [
            AttemptOutcome.LEASE_LOST,
            AttemptOutcome.COMPLETED,
        ]
        assert first.history[0].worker == process.worker_id
        settled: Context = await until(partial(settled_context, store, first.id))
    finally:
        process.go_on.set()
    await until(process.ended.is_set)
    assert await read(store, first.id) == settled
    assert any("lease was lost" in line for line in warnings)
    # It was blocked from before its lease ended until after the other had done the work.
    assert process.lag > LEASE_SECONDS / 2
    assert any("the event loop stood still for" in line for line in warnings)


async def settled_context(store: Store, context_id: str) -> Context | None:
    context = await read(store, context_id)
    return context if context.settled else None
