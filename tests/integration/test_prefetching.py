"""Claiming ahead of free slots: short attempts never wait for a claim, long ones are left to idle peers."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.service_state import Hold
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from agent_service.workers import claim_loop, prefetch
from agent_service.workers.claimer import Claimed, Claimer
from agent_service.workers.prefetch import MOST_AHEAD
from tests.support.service_gates import HOUR, SERVICE, all_ended, second_store
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, echo, read, running, submit, the_run, when


class Slow:
    """A handler that answers at once until `slow` is set, and then when `done` is."""

    def __init__(self) -> None:
        self.slow = False
        self.done = asyncio.Event()
        self.called: list[str] = []

    async def __call__(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        self.called.append(call.context_id)
        if self.slow:
            await self.done.wait()
        return BaseServiceAnswer(output="done")


async def count_running(raw: Raw) -> int:
    return await raw.contexts.count_documents({"status": "running"})


async def learn_that_attempts_are_short(store: Store, worker: HandlerWorker) -> None:
    async def learnt() -> int:
        await all_ended(store, [await submit(store)])
        return the_run(worker)._claiming._prefetch.allowed

    # On a busy machine the first ones take long.
    allowed: int = await until(learnt)
    assert allowed


async def test_of_short_attempts_the_next_is_claimed_while_the_slot_is_busy(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "_LONGEST_WAIT", HOUR)
    handler = Slow()
    worker = HandlerWorker(store, handler, concurrency=1, poll_interval=HOUR, lease_seconds=HOUR)
    async with running(worker):
        await learn_that_attempts_are_short(store, worker)
        before = len(handler.called)
        handler.slow = True
        requests = [await submit(store) for _ in range(4)]

        async def both() -> bool:
            return await count_running(raw) >= 2

        claimed_ahead: bool = await until(both)
        assert claimed_ahead
        # One slot is one call at a time, whatever was claimed.
        assert len(handler.called) == before + 1
        handler.done.set()
        contexts = await all_ended(store, requests)
    assert {context.tries for context in contexts} == {1}


@pytest.mark.parametrize(("batch_size", "most"), [(4, 4 + MOST_AHEAD), (2, 2 + 2)])
async def test_one_claim_is_for_the_free_slots_and_for_the_line_behind_them(
    store: Store, monkeypatch: pytest.MonkeyPatch, batch_size: int, most: int
) -> None:
    limits: list[int] = []
    claim = Claimer.claim

    async def note_limit(self: Claimer, limit: int) -> Claimed:
        limits.append(limit)
        return await claim(self, limit)

    monkeypatch.setattr(Claimer, "claim", note_limit)
    requests = [await submit(store) for _ in range(30)]
    worker = HandlerWorker(store, echo, concurrency=4, batch_size=batch_size, poll_interval=HOUR)
    async with running(worker):
        await all_ended(store, requests)
    assert batch_size < max(limits) <= most


async def test_of_long_attempts_nothing_is_claimed_ahead_and_an_idle_peer_gets_the_work(
    store: Store, raw: Raw, mongodb_uri: str, database_name: str
) -> None:
    handler = Slow()
    worker = HandlerWorker(store, handler, concurrency=2, poll_interval=HOUR)
    async with running(worker), second_store(mongodb_uri, database_name) as other:
        the_run(worker)._claiming._prefetch.took(30)
        handler.slow = True
        requests = [await submit(store) for _ in range(4)]
        await until(lambda: len(handler.called) == 2)
        assert await count_running(raw) == 2
        async with running(HandlerWorker(other, handler, concurrency=2, poll_interval=HOUR)):
            await until(lambda: len(handler.called) == 4)
            handler.done.set()
            contexts = await all_ended(store, requests)
    assert {(context.attempt, context.tries) for context in contexts} == {(1, 1)}


@pytest.mark.parametrize("reason", ["it waits too long", "a hold begins", "the worker stops"])
async def test_what_was_claimed_ahead_and_does_not_begin_is_handed_back_and_costs_nothing(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason != "it waits too long":
        monkeypatch.setattr(prefetch, "_LONGEST_WAIT", HOUR)
    handler = Slow()
    worker = HandlerWorker(
        store, handler, concurrency=1, poll_interval=HOUR, lease_seconds=HOUR, shutdown_grace=30
    )
    async with running(worker):
        await learn_that_attempts_are_short(store, worker)
        handler.slow = True
        requests = [await submit(store) for _ in range(2)]
        await until(lambda: any(f"{request}.draft" in handler.called for request in requests))
        (waiting,) = [request for request in requests if f"{request}.draft" not in handler.called]
        if reason != "it waits too long":
            await until(lambda: len(the_run(worker)._claiming._prefetch) == 1)
        if reason == "a hold begins":
            now = store.clock.now()
            await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
        stopping = asyncio.create_task(worker.stop()) if reason == "the worker stops" else None
        context = await when(store, f"{waiting}.draft", lambda found: bool(found.history))
        assert (context.status, context.tries, context.attempt) == (ContextStatus.PENDING, 0, 1)
        assert context.history[0].outcome is AttemptOutcome.RELEASED
        assert context.id not in handler.called
        handler.done.set()
        if stopping is not None:
            await stopping
            return
        if reason == "a hold begins":
            await store.services.lift(SERVICE, "paused")
        contexts = await all_ended(store, requests)
    assert {context.tries for context in contexts} == {1}


async def test_a_slot_is_free_before_the_outcome_of_its_work_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, may_write = Slow(), asyncio.Event()
    finish = ContextManager.finish

    async def slowly(self: ContextManager, outcomes: Sequence[Outcome]) -> frozenset[str]:
        await may_write.wait()
        return await finish(self, outcomes)

    monkeypatch.setattr(ContextManager, "finish", slowly)
    async with running(HandlerWorker(store, handler, concurrency=1, poll_interval=HOUR)):
        requests = [await submit(store) for _ in range(3)]
        await until(lambda: len(handler.called) == 3)
        assert {(await read(store, f"{request}.draft")).status for request in requests} == {"running"}
        may_write.set()
        await all_ended(store, requests)


async def test_while_too_many_outcomes_wait_to_be_written_nothing_is_claimed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "_UNWRITTEN_PER_SLOT", 1)
    monkeypatch.setattr(claim_loop, "_LEAST_UNWRITTEN", 2)
    handler, may_write = Slow(), asyncio.Event()
    finish = ContextManager.finish
    asked = 0

    async def slowly(self: ContextManager, outcomes: Sequence[Outcome]) -> frozenset[str]:
        await may_write.wait()
        return await finish(self, outcomes)

    def count_pauses(self: claim_loop.ClaimLoop) -> bool:
        nonlocal asked
        full = too_many(self)
        asked += full
        return full

    too_many = claim_loop.ClaimLoop._too_many_unwritten
    monkeypatch.setattr(ContextManager, "finish", slowly)
    monkeypatch.setattr(claim_loop.ClaimLoop, "_too_many_unwritten", count_pauses)
    async with running(HandlerWorker(store, handler, concurrency=1, poll_interval=timedelta(seconds=0.1))):
        requests = [await submit(store) for _ in range(8)]
        await until(lambda: asked >= 5)
        # Two that wait to be written, and what had been claimed by then: one at work and one ahead.
        assert 2 <= len(handler.called) <= 4
        may_write.set()
        await all_ended(store, requests)


async def test_while_answers_of_too_many_bytes_wait_to_be_written_nothing_begins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "_MOST_UNWRITTEN_BYTES", 3_000)
    called: list[str] = []
    may_write, held_up = asyncio.Event(), asyncio.Event()
    finish, too_many = ContextManager.finish, claim_loop.ClaimLoop._too_many_bytes

    async def verbose(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.append(call.context_id)
        return BaseServiceAnswer(output="x" * 1_000)

    async def slowly(self: ContextManager, outcomes: Sequence[Outcome]) -> frozenset[str]:
        await may_write.wait()
        return await finish(self, outcomes)

    def watched(self: claim_loop.ClaimLoop) -> bool:
        if too_many(self):
            held_up.set()
        return too_many(self)

    monkeypatch.setattr(ContextManager, "finish", slowly)
    monkeypatch.setattr(claim_loop.ClaimLoop, "_too_many_bytes", watched)
    requests = [await submit(store) for _ in range(20)]
    # Nothing but written outcomes can wake it.
    async with running(HandlerWorker(store, verbose, concurrency=2, poll_interval=HOUR)):
        await asyncio.wait_for(held_up.wait(), 20)
        # Three answers fill what may wait; one more had begun beside the third.
        assert 3 <= len(called) <= 4
        may_write.set()
        await all_ended(store, requests)
    assert len(called) == len(requests)


async def test_claiming_goes_on_as_soon_as_enough_outcomes_are_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "_UNWRITTEN_PER_SLOT", 1)
    monkeypatch.setattr(claim_loop, "_LEAST_UNWRITTEN", 2)
    may_write = asyncio.Event()
    finish = ContextManager.finish

    async def slowly(self: ContextManager, outcomes: Sequence[Outcome]) -> frozenset[str]:
        await may_write.wait()
        return await finish(self, outcomes)

    monkeypatch.setattr(ContextManager, "finish", slowly)
    requests = [await submit(store) for _ in range(8)]
    # Nothing but the written outcomes can wake it: no slot becomes free, and its own poll is an hour away.
    worker = HandlerWorker(store, echo, concurrency=1, poll_interval=HOUR)
    async with running(worker):
        await until(lambda: the_run(worker)._claiming._held_up)
        may_write.set()
        await all_ended(store, requests)
