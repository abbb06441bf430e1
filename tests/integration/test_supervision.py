"""No loop of a worker ends unnoticed: it is started again, or the worker stops in order and loses nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from agent_service import concurrency
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import LoopFailed
from agent_service.scheduler import Scheduler
from agent_service.store import Store
from agent_service.workers.batches import Batches
from agent_service.workers.claim_loop import ClaimLoop
from agent_service.workers.lease_keeper import LeaseKeeper
from agent_service.workers.outcome_writer import OutcomeWriter
from agent_service.workers.service_gate import ServiceGate
from agent_service.workers.sign_of_life import LifeSigns
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    HandlerWorker,
    echo,
    ended,
    read,
    running,
    submit,
    when,
)

LEASE = timedelta(seconds=4)


class Handler:
    """A handler that waits until the test says so; `began` is set with the first call."""

    def __init__(self) -> None:
        self.began, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        self.began.set()
        await self.may_end.wait()
        return BaseServiceAnswer(output="done")


class Breaking:
    """A method that raises when and as often as a test wants, and otherwise does what it always does."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, afterwards: bool = False
    ) -> None:
        self.times = 0
        original: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def method(instance: object, *args: object, **options: object) -> object:
            if not afterwards:
                self.fail_if_wanted()
            found = await original(instance, *args, **options)
            if afterwards:
                self.fail_if_wanted()
            return found

        monkeypatch.setattr(owner, name, method)

    def fail_if_wanted(self) -> None:
        if self.times:
            self.times -= 1
            raise KeyError("nobody foresaw this")


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are started again almost at once."""
    monkeypatch.setattr(concurrency, "_PAUSE_WHILE_FAILED", concurrency._PAUSE)


async def stopped_by_itself(worker: HandlerWorker) -> None:
    """Wait until the worker has stopped because of a failure."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(LoopFailed):
            await worker.wait()


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
async def test_a_writer_that_fails_is_started_again_and_writes_what_it_had_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch, warnings: list[str], *, afterwards: bool
) -> None:
    breaking = Breaking(monkeypatch, OutcomeWriter, "_write", afterwards=afterwards)
    worker = HandlerWorker(store, echo)
    async with running(worker):
        breaking.times = 1
        view = await ended(store, await submit(store))
        assert view.contexts[0].status is ContextStatus.COMPLETED
        assert "outcome writer" in store.supervisor.trouble
    assert [line for line in warnings if "Traceback" in line and "nobody foresaw this" in line]
    assert store.supervisor.failure is None
    await worker.wait()
    assert await store.counters.loop_failures() == {"outcome writer": 1}


async def test_a_writer_that_keeps_failing_loses_no_outcome_and_stops_the_worker(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = Breaking(monkeypatch, Batches, "next")
    handler = Handler()
    worker = HandlerWorker(store, handler, concurrency=2, shutdown_grace=DEADLINE_SECONDS)
    await worker.start()
    request_id = await submit(store)
    await handler.began.wait()
    # The writer waits for work, and breaks with the first that comes: so it does four times, and on.
    breaking.times = 1_000
    handler.may_end.set()
    await stopped_by_itself(worker)
    assert (await read(store, f"{request_id}.draft")).status is ContextStatus.COMPLETED


@pytest.mark.parametrize(
    ("owner", "method"),
    [(ClaimLoop, "_claim_until"), (ServiceGate, "run"), (LifeSigns, "_report"), (Scheduler, "_promote_due")],
    ids=["claimer", "gate", "signs of life", "scheduler"],
)
async def test_a_loop_that_fails_stops_the_worker_and_what_has_no_outcome_is_handed_back(
    store: Store, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    handler = Handler()
    worker = HandlerWorker(store, handler)
    await worker.start()
    request_id = await submit(store)
    await handler.began.wait()
    assert store.supervisor.failure is None
    await worker.stop()
    breaking = Breaking(monkeypatch, owner, method)
    breaking.times = 1_000
    handler.began.clear()
    await worker.start()
    await stopped_by_itself(worker)
    context = await read(store, f"{request_id}.draft")
    assert context.status is ContextStatus.PENDING
    assert {record.outcome for record in context.history} == {AttemptOutcome.RELEASED}
    with pytest.raises(LoopFailed):
        await worker.start()


async def test_a_keeper_that_keeps_failing_still_renews_while_the_worker_stops(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Handler()

    async def fail(_: LeaseKeeper) -> None:
        # Before there is an attempt the worker would stop without one.
        await handler.began.wait()
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(LeaseKeeper, "_renew_regularly", fail)
    worker = HandlerWorker(store, handler, lease_seconds=LEASE, shutdown_grace=DEADLINE_SECONDS)
    await worker.start()
    request_id = await submit(store)
    await handler.began.wait()
    first = (await read(store, f"{request_id}.draft")).lease
    assert first is not None
    with pytest.raises(LoopFailed):
        await store.supervisor.wait()

    def outlives(context: Context) -> bool:
        # Longer than the lease: it would have ended, and the attempt with it.
        return context.lease is not None and context.lease.expires_at - first.expires_at > 1.5 * LEASE

    await when(store, f"{request_id}.draft", outlives)
    handler.may_end.set()
    await stopped_by_itself(worker)
    context = await read(store, f"{request_id}.draft")
    assert (context.status, context.attempt) == (ContextStatus.COMPLETED, 1)


async def test_a_keeper_that_fails_while_the_driver_loses_a_cancellation_is_started_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = LeaseKeeper(ContextManager(store), lease=timedelta(hours=1))
    looking, lost, failures = asyncio.Event(), asyncio.Event(), 0

    async def look(_: LeaseKeeper) -> None:
        looking.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # As before Python 3.12, once.
            if lost.is_set():
                raise
            lost.set()

    async def fail(_: LeaseKeeper) -> None:
        nonlocal failures
        await looking.wait()
        failures += 1
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(LeaseKeeper, "look", look)
    monkeypatch.setattr(LeaseKeeper, "_renew_regularly", fail)
    keeper._kept["r.step"] = cast("Any", None)
    keeper._late.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(KeyError):
            await keeper.run()
    assert lost.is_set()
    assert failures == 1


async def test_all_workers_of_a_process_stop_when_a_loop_of_it_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = HandlerWorker(store, echo), HandlerWorker(store, echo, service="analysis")
    await first.start()
    await second.start()
    store.supervisor._give_up("a loop failed", None)
    await asyncio.gather(stopped_by_itself(first), stopped_by_itself(second))


async def test_a_worker_that_is_stopped_ends_the_wait_and_raises_nothing(store: Store) -> None:
    worker = HandlerWorker(store, echo)
    await worker.wait()
    await worker.start()
    waiting = asyncio.create_task(worker.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await worker.stop()
    await waiting
