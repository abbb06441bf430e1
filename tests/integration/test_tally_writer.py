"""What a process has counted reaches the fleet's counters: now and then, and when it stops."""

import asyncio
from datetime import timedelta

import pytest

from agent_service import tally_writer
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import AttemptOutcome
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.store import Store
from agent_service.tally_writer import TallyWriter
from agent_service.telemetry.metrics import Counted, QueueName, WorkCounts
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    PASSING_ERROR,
    HandlerWorker,
    Raw,
    ended,
    running,
    submit,
    trouble,
)

DEFAULT = QueueName("generation", "default")


async def told(store: Store) -> WorkCounts:
    return (await store.counters.all()).get(DEFAULT, WorkCounts())


async def test_it_tells_now_and_then_through_trouble_and_at_the_end(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally_writer, "EVERY", timedelta(milliseconds=20))
    stopping = asyncio.Event()
    task = asyncio.create_task(TallyWriter(store).run(stopping))
    namespace = f"{raw.name}.counters"
    async with trouble(raw, ["update"], mode={"times": 2}, namespace=namespace, errorCode=PASSING_ERROR):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (await told(store)).events:
                store.counters.tally.of(*DEFAULT).count(Counted.CLAIM)
    stopping.set()
    store.counters.tally.of(*DEFAULT).count(Counted.RESCUED)
    await task
    assert (await told(store)).events[Counted.RESCUED] == 1


async def test_a_worker_that_has_stopped_has_told_all_it_did(store: Store) -> None:
    failures = iter([BaseServiceUnavailable("busy", "try again")])

    async def fail_once(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        for failure in failures:
            raise failure
        return BaseServiceAnswer(output=1)

    async with running(HandlerWorker(store, fail_once)):
        for _ in range(3):
            await ended(store, await submit(store))
    counts = await told(store)
    assert counts.attempts() == {AttemptOutcome.COMPLETED: 3, AttemptOutcome.RETRYING: 1}
    assert counts.events[Counted.SUBMITTED] == 3
    assert counts.events[Counted.CLAIMED] == 4
    assert 1 <= counts.events[Counted.CLAIM] <= 4
    assert counts.waits.count == 4
