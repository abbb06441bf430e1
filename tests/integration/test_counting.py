"""What is counted where it happens: submissions, claims, ends, lost leases and rescues."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context
from agent_service.domain.transitions import completed
from agent_service.request_service import RequestService
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from agent_service.telemetry.metrics import Counted, QueueName, WorkCounts
from agent_service.workers.claimer import Claimer
from agent_service.workers.outcome_writer import OutcomeWriter
from tests.support.contexts import a_context, insert_claimed
from tests.support.worker_tools import Raw, step

GENERATION, CHECKS = QueueName("generation", "default"), QueueName("analysis", "default")
SERVICES = {"generation": 3, "analysis": 3}
SECOND = timedelta(seconds=1)


@contextmanager
def counted(store: Store) -> Iterator[dict[QueueName, WorkCounts]]:
    """What is counted in this process while the block runs; there once it is over."""
    assert list(store.counters.tally.take()) == []
    counts: dict[QueueName, WorkCounts] = {}
    yield counts
    counts.update(store.counters.tally.take())


async def test_a_request_is_counted_once_with_its_first_step(store: Store) -> None:
    requests = RequestService(store, max_attempts=SERVICES)
    submission = {"steps": [step("check", "analysis"), step("draft", after=("check",))]}
    single = {"service": "generation", "input": 1}
    with counted(store) as counts:
        for _ in range(2):
            await requests.submit(submission, idempotency_key="once")
        accepted = await requests.submit(single)
        await requests.submit_many([single, {"service": "nobody"}, submission])
        await requests.cancel(accepted.request.id)
        await requests.retry(accepted.request.id)
    assert {name: one.events for name, one in counts.items()} == {
        CHECKS: {Counted.SUBMITTED: 2},
        GENERATION: {Counted.SUBMITTED: 3},
    }


async def test_who_is_cancelled_while_a_request_is_stored_has_it_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, insert_many = RequestService(store, max_attempts=SERVICES), store.requests.insert_many
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **options: Any) -> frozenset[str]:
        began.set()
        await go_on.wait()
        return await insert_many(*arguments, **options)

    monkeypatch.setattr(store.requests, "insert_many", slow)
    with counted(store) as counts:
        submitting = asyncio.create_task(requests.submit({"service": "generation", "input": 1}))
        await began.wait()
        submitting.cancel()
        await asyncio.wait({submitting})
        assert submitting.cancelled()
        go_on.set()
        await store.calls.finish()
    assert counts[GENERATION].events == {Counted.SUBMITTED: 1}


async def test_claims_that_found_something_are_counted_with_what_they_took(store: Store) -> None:
    claimer = Claimer(
        ContextManager(store),
        service="generation",
        queues=("default", "fast"),
        worker_id="worker",
        lease=30 * SECOND,
    )
    fast = [a_context(queue="fast", rank=rank, priority=1) for rank in range(2)]
    await store.contexts.insert([a_context(), *fast])
    with counted(store) as counts:
        assert [len((await claimer.claim(5)).contexts) for _ in range(3)] == [1, 2, 0]
    assert counts[GENERATION].events == {Counted.CLAIMED: 1, Counted.CLAIM: 1}
    assert counts[QueueName("generation", "fast")].events == {Counted.CLAIMED: 2, Counted.CLAIM: 1}


def done(context: Context) -> Outcome:
    assert context.started_at is not None
    at = context.started_at + 3 * SECOND
    return Outcome(context=context, transition=completed(at=at, output=1, usage=None, chunks=0))


async def test_an_end_is_counted_when_it_is_written_and_a_lost_lease_instead_of_it(
    store: Store, raw: Raw
) -> None:
    waiting = [a_context(), a_context(run_at=a_context().run_at - 9 * SECOND)]
    kept, lost = await insert_claimed(store, waiting)
    await raw["contexts"].update_one({"_id": lost.id}, {"$set": {"lease.token": "somebody else's"}})
    writer = OutcomeWriter(ContextManager(store))
    with counted(store) as counts:
        writing = asyncio.gather(writer.run(), writer.settle())
        assert await writer.write(done(kept))
        assert not await writer.write(done(lost))
        writer.stop()
        await writing
    of_generation = counts[GENERATION]
    assert of_generation.events == {Counted.LEASE_LOST: 1}
    assert of_generation.attempts() == {AttemptOutcome.COMPLETED: 1}
    assert of_generation.durations[AttemptOutcome.COMPLETED].sum == 3
    assert kept.started_at is not None
    assert of_generation.waits.sum == max((kept.started_at - kept.run_at).total_seconds(), 0)


async def test_a_rescue_is_counted_with_the_queue_of_what_was_rescued(store: Store, rescuer: Rescuer) -> None:
    context = a_context(service="analysis")
    await insert_claimed(store, [context], expires_at=context.run_at - SECOND)
    with counted(store) as counts:
        for _ in range(2):
            await rescuer.sweep()
    assert counts == {CHECKS: WorkCounts(events={Counted.RESCUED: 1})}
