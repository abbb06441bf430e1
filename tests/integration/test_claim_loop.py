"""Whole workers and a base service in trouble: who calls when, and what that costs the contexts."""

import asyncio
from datetime import datetime, timedelta
from math import floor

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain import service_state
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.line import Candidate
from agent_service.domain.service_state import BreakerState, Hold
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import Stretch
from agent_service.workers import admission
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.service_gates import SERVICE, all_ended, break_service, second_store
from tests.support.waiting import until
from tests.support.worker_tools import (
    HandlerWorker,
    Raw,
    echo,
    read,
    running,
    submit,
    the_run,
    when,
)

HOUR = timedelta(hours=1)
SHORT = timedelta(seconds=0.5)


async def breaker_is(store: Store, state: BreakerState) -> None:
    async def found() -> str | None:
        read = await store.services.read(SERVICE)
        return "yes" if read.breaker.state is state else None

    answered: str = await until(found, seconds=30)
    assert answered


async def charged(raw: Raw) -> int:
    """How many tries all contexts have used up."""
    return sum([document["tries"] async for document in raw.contexts.find({}, {"tries": 1})])


async def test_while_a_service_is_down_contexts_wait_and_keep_their_tries_and_then_all_complete(
    store: Store, raw: Raw, mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_state, "FIRST_OPEN", timedelta(seconds=0.1))
    stub = BaseServiceStub()
    async with stub:
        stub.behave(answer({"output": "done"}))
    requests = [await submit(store, tries=5) for _ in range(30)]
    async with second_store(mongodb_uri, database_name) as other:
        workers = [
            GenerativeWorker(each, base_url=stub.url, concurrency=4, poll_interval=HOUR)
            for each in (store, other)
        ]
        async with running(*workers):
            await breaker_is(store, BreakerState.OPEN)

            async def probed() -> str | None:
                return "yes" if (await store.services.read(SERVICE)).breaker.opened >= 3 else None

            answered: str = await until(probed, seconds=60)
            assert answered
            # In each of the two: those that showed that it is broken, and those in flight by then.
            assert await charged(raw) <= 2 * (4 + 4)
            statuses = {document["status"] async for document in raw.contexts.find({}, {"status": 1})}
            assert statuses <= {"pending", "scheduled", "running"}
            async with stub:
                contexts = await all_ended(store, requests)
    assert sum(context.tries for context in contexts) <= 30 + 2 * (4 + 4)
    assert len(stub.calls) == 30


async def test_a_paused_service_is_called_by_nobody_until_it_is_resumed(
    store: Store, raw: Raw, mongodb_uri: str, database_name: str
) -> None:
    called: list[str] = []

    async def handle(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.append(call.context_id)
        return BaseServiceAnswer(output=1)

    async with second_store(mongodb_uri, database_name) as other:
        workers = [HandlerWorker(each, handle, poll_interval=HOUR) for each in (store, other)]
        async with running(*workers):
            await all_ended(store, [await submit(store)])
            now = store.clock.now()
            await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
            await store.services.hold(SERVICE, Hold(name="night", reason="", since=now, until=now + SHORT))
            for worker in workers:
                await until(
                    lambda worker=worker: len(the_run(worker)._gate._view.stored.holds) == 2, seconds=30
                )
            requests = [await submit(store) for _ in range(10)]
            # Both were woken for these by the same notification, in order.
            await until(lambda: store.clock.now() > now + SHORT)
            assert await raw.contexts.count_documents({"status": "pending", "attempt": 0}) == 10
            assert len(called) == 1
            await store.services.lift(SERVICE, "paused")
            contexts = await all_ended(store, requests)
    assert {(context.attempt, context.tries) for context in contexts} == {(1, 1)}


async def test_what_was_claimed_while_a_hold_began_is_handed_back_and_costs_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    async def handle(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.append(call.context_id)
        return BaseServiceAnswer(output=1)

    worker = HandlerWorker(store, handle, poll_interval=HOUR)
    claim_one = store.claims.claim_one

    async def slow_claim(claim: Claim, wanted: Candidate | Stretch) -> Context | None:
        claimed = await claim_one(claim, wanted)
        if claimed is not None and claimed.attempt == 1:
            now = store.clock.now()
            await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
            await until(lambda: the_run(worker)._gate._view.stored.holds, seconds=30)
        return claimed

    monkeypatch.setattr(store.claims, "claim_one", slow_claim)
    async with running(worker):
        request_id = await submit(store)
        context = await when(store, f"{request_id}.draft", lambda found: bool(found.history))
        assert (context.status, context.tries, context.attempt) == (ContextStatus.PENDING, 0, 1)
        assert context.history[0].outcome is AttemptOutcome.RELEASED
        assert called == []
        await store.services.lift(SERVICE, "paused")
        [context] = await all_ended(store, [request_id])
    assert (context.tries, context.attempt) == (1, 2)


@pytest.mark.parametrize("answered", [True, False])
async def test_each_probe_uses_another_context_and_costs_a_try_only_where_the_service_answered(
    store: Store, mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    monkeypatch.setattr(service_state, "FIRST_OPEN", timedelta(seconds=0.1))
    monkeypatch.setattr(service_state, "LONGEST_OPEN", timedelta(seconds=0.1))
    monkeypatch.setattr(admission, "_STAND_BACK", (HOUR, HOUR))
    calls: list[str] = []
    together: list[int] = []
    in_flight = 0

    async def handle(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        nonlocal in_flight
        in_flight += 1
        calls.append(call.context_id)
        together.append(in_flight)
        await asyncio.sleep(0.05)
        in_flight -= 1
        if len(calls) > 3:
            return BaseServiceAnswer(output=1)
        raise BaseServiceUnavailable("server_error" if answered else "timeout", "no", answered=answered)

    await break_service(store)
    requests = [await submit(store, tries=5) for _ in range(8)]
    async with second_store(mongodb_uri, database_name) as other:
        workers = [HandlerWorker(each, handle, poll_interval=HOUR) for each in (store, other)]
        async with running(*workers):
            await until(lambda: len(set(calls)) == 8, seconds=30)
            tried = [request for request in requests if f"{request}.draft" in calls[:3]]
            await all_ended(store, [request for request in requests if request not in tried])
            probes = [await read(store, context_id) for context_id in calls[:3]]
    assert len(tried) == 3
    assert together[:4] == [1] * 4
    for probe in probes:
        assert (probe.status, probe.tries) == (ContextStatus.SCHEDULED, 1 if answered else 0)
        assert probe.run_at - probe.history[0].ended_at > HOUR - timedelta(seconds=30)


async def test_a_service_that_works_again_is_called_a_little_more_each_second(store: Store) -> None:
    starts: list[tuple[datetime, int]] = []
    everybody, in_flight = asyncio.Event(), 0

    async def handle(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        nonlocal in_flight
        in_flight += 1
        starts.append((store.clock.now(), in_flight))
        if in_flight == 8:
            everybody.set()
        await everybody.wait()
        return BaseServiceAnswer(output=1)

    requests = [await submit(store) for _ in range(12)]
    state = await break_service(store, state=BreakerState.RAMPING)
    async with running(HandlerWorker(store, handle, concurrency=8, poll_interval=HOUR)):
        await all_ended(store, requests)
    since = state.breaker.since
    assert since is not None
    for at, together in starts[:8]:
        assert together <= 2 ** floor((at - since).total_seconds())


async def test_a_worker_that_claims_nothing_with_its_probe_gives_it_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waiting(*_: object) -> bool:
        return True

    monkeypatch.setattr(store.services, "has_waiting", waiting)
    await break_service(store)
    async with running(HandlerWorker(store, echo, poll_interval=HOUR)):
        await breaker_is(store, BreakerState.PROBING)
        await breaker_is(store, BreakerState.OPEN)
    state = await store.services.read(SERVICE)
    assert (state.breaker.opened, state.breaker.probe) == (1, None)
