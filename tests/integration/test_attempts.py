"""The attempts of a worker, from their slot to their end."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from loguru import logger

from agent_service import upkeep
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from agent_service.workers.execution import Execution, GoOn
from tests.support.worker_tools import HandlerWorker, by_step, echo, ended, running, step, submit, when


async def test_an_attempt_that_breaks_off_frees_its_slot_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", format="{message}")
    run = Execution.run
    broken: list[str] = []

    async def breaks_once(self: Execution, on_worked: Callable[[], None], go_on: GoOn) -> None:
        if not broken:
            broken.append(self.context.id)
            raise RuntimeError("unforeseen")
        await run(self, on_worked, go_on)

    monkeypatch.setattr(Execution, "run", breaks_once)
    async with running(HandlerWorker(store, echo, concurrency=1)):
        first = await submit(store, step())
        await when(store, f"{first}.draft", lambda context: context.attempt == 1)
        # One slot, and the broken attempt had it.
        assert by_step(await ended(store, await submit(store, step())))["draft"].output == "hello"
    logger.remove(sink)
    assert any("broke off" in line for line in lines)


async def test_without_mongodb_a_stop_ends_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = asyncio.Event()

    async def until_stopped(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        working.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    async def away(self: ContextManager, outcomes: Sequence[Outcome]) -> frozenset[str]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(upkeep, "LAST_WRITES", timedelta(milliseconds=100))
    worker = HandlerWorker(store, until_stopped)
    await worker.start()
    request_id = await submit(store, step())
    async with asyncio.timeout(20):
        await working.wait()
        with monkeypatch.context() as patch:
            patch.setattr(ContextManager, "finish", away)
            await worker.stop()
    # Its lease still stands there, for the rescuer to find.
    context = await when(store, f"{request_id}.draft", lambda context: context.attempt == 1)
    assert context.status is ContextStatus.RUNNING
    assert context.lease is not None
