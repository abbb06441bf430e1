"""A process that was stopped and woken calls nobody for an attempt that is no longer its own."""

import asyncio
import time
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.store import Store
from agent_service.workers import execution as execution_module
from agent_service.workers.execution import Execution
from agent_service.workers.outcome_writer import OutcomeWriter
from tests.support.worker_tools import claim, read

LEASE_SECONDS = 60.0


async def test_a_lease_that_ended_while_the_process_stood_still_is_seen_before_the_call(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = asyncio.Event()

    async def note(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.set()
        return BaseServiceAnswer(output=None)

    (context,) = await claim(store, 1, seconds=LEASE_SECONDS)
    contexts = ContextManager(store)
    execution = Execution(
        context,
        contexts=contexts,
        handler=note,
        outcomes=OutcomeWriter(contexts),
        lease_ends=time.monotonic() + LEASE_SECONDS,
        timeout=timedelta(seconds=10),
        backoff=RetryPolicy(),
    )
    monotonic = time.monotonic

    def stand_still(value: object) -> bool:
        """The process is stopped for longer than its lease while the input is looked at."""
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 2 * LEASE_SECONDS)
        return False

    # No alarm has gone off yet: the event loop runs nothing else before the call.
    monkeypatch.setattr(execution_module, "is_template", stand_still)
    tasks = {
        asyncio.create_task(execution.run(lambda: None, lambda _: False)),
        asyncio.create_task(called.wait()),
    }
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    monkeypatch.undo()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    execution.lease.let_go()
    assert not called.is_set()
    now = await read(store, context.id)
    assert (now.status, now.history) == (ContextStatus.RUNNING, ())
