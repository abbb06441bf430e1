"""ServiceGate: what one process learns of a service, all processes act upon."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.call_result import CallResult
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.service_state import RETRY_AFTER, BreakerState, Counts, Hold
from agent_service.store import Store
from agent_service.workers import service_watch
from agent_service.workers.service_gate import ServiceGate
from tests.support.contexts import a_context
from tests.support.fail_points import fragile_store
from tests.support.open_subscriptions import silence
from tests.support.service_gates import (
    SERVICE,
    answers,
    break_service,
    broken,
    gate_of,
    show,
    two_gates,
)
from tests.support.waiting import until
from tests.support.worker_tools import logged_store

Raw = AsyncDatabase[dict[str, Any]]


async def test_a_hold_is_known_to_every_process_and_so_is_its_end(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    async with two_gates(mongodb_uri, database_name) as (one, two):
        await answers(one, 10)
        await answers(two, 10)
        now = store.clock.now()
        await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
        await answers(one, 0)
        await answers(two, 0)
        assert one.may_start(0) == 0
        await store.services.hold(SERVICE, Hold(name="night", reason="", since=now, until=None))
        await store.services.lift(SERVICE, "paused")
        await until(lambda: set(two._view.stored.holds) == {"night"}, seconds=30)
        assert (await two.ask(0)).may_start == 0
        await store.services.lift(SERVICE, "night")
        await answers(one, 10)
        await answers(two, 10)


async def test_whoever_waits_at_the_gate_is_told_when_it_opens_and_by_itself_when_a_hold_ends(
    store: Store,
) -> None:
    changed = asyncio.Event()
    async with gate_of(store, on_change=changed) as gate:
        end = store.clock.now() + timedelta(minutes=5)
        await store.services.hold_until(SERVICE, end, reason="", now=store.clock.now())
        await answers(gate, 0)
        assert (await gate.ask(0)).again_at == end
        changed.clear()
        await store.services.lift(SERVICE, RETRY_AFTER)
        async with asyncio.timeout(30):
            await changed.wait()
        assert (await gate.ask(3)).may_start == 7


async def test_a_service_that_nobody_can_connect_to_is_called_by_nobody(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    async with two_gates(mongodb_uri, database_name) as (one, two):
        await answers(one, 10)
        show(one, CallResult.UNREACHABLE, 5)
        # Nothing more begins here, although the fleet does not know yet.
        assert (await one.ask(0)).may_start == 0
        await until(lambda: two._view.stored.breaker.state is BreakerState.OPEN, seconds=30)
        answer = await two.ask(0)
        state = await store.services.read(SERVICE)
        assert (answer.may_start, answer.again_at) == (0, state.breaker.until)
        assert (state.epoch, state.breaker.opened) == (1, 1)
        assert "5 calls could not connect, and none was answered" in state.breaker.reason
        assert "the base service is not itself" in state.breaker.reason


async def test_half_of_the_calls_of_the_whole_fleet_must_fail(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    async with two_gates(mongodb_uri, database_name) as (one, two):
        await answers(one, 10)
        await answers(two, 10)
        show(one, CallResult.FAILED, 10)
        show(two, CallResult.WORKED, 9)
        show(two, CallResult.FAILED, 1)
        await until(lambda: two._view.stored.breaker.state is BreakerState.OPEN, seconds=30)
        assert "11 of 20 calls failed" in (await store.services.read(SERVICE)).breaker.reason


async def test_one_process_that_cannot_connect_does_not_stop_those_that_can(
    store: Store, mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as a slow machine needs to ring a subscription.
    monkeypatch.setattr(service_watch, "SETTLING", timedelta(seconds=2))
    async with two_gates(mongodb_uri, database_name) as (one, two):
        await answers(one, 10)
        await answers(two, 10)
        show(two, CallResult.WORKED)
        show(one, CallResult.UNREACHABLE, 5)
        assert (await one.ask(0)).may_start == 0
        await answers(one, 10)
    state = await store.services.read(SERVICE)
    assert (state.epoch, state.breaker.state) == (0, BreakerState.CLOSED)
    assert state.counted(store.clock.now()) == Counts(calls=6, failures=5, unreachable=5, answered=1)


async def test_what_began_before_the_breaker_moved_says_nothing_about_it_now(store: Store) -> None:
    async with gate_of(store) as gate:
        await answers(gate, 10)
        before = [gate.admit() for _ in range(30)]
        await break_service(store, state=BreakerState.CLOSED)
        await until(lambda: gate._view.stored.epoch == 1, seconds=30)
        for admission in before:
            assert await admission.failed(broken("connect_failed")) is None
        assert (await gate.ask(0)).may_start == 10
        await gate.admit().failed(broken("server_error", answered=True))

        await until(lambda: gate._view.stored.window, seconds=30)
    counts = (await store.services.read(SERVICE)).counted(store.clock.now())
    assert counts == Counts(calls=1, failures=1, answered=1)


async def test_while_everything_succeeds_nothing_is_written(mongodb_uri: str, database_name: str) -> None:
    async with logged_store(mongodb_uri, database_name) as (store, log), gate_of(store) as gate:
        await answers(gate, 10)
        show(gate, CallResult.WORKED, 1000)
        show(gate, CallResult.NOTHING, 10)
        for _ in range(1000):
            assert (await gate.ask(0)).may_start == 10
        before = len(log.sent)
        # One that fails is told, with what worked before it.
        show(gate, CallResult.FAILED)
        await until(lambda: gate._view.stored.window is not None, seconds=30)
        written = [name for name, target, _ in log.sent[:before] if target == "services" and name != "find"]
        assert written == []
        assert gate._view.stored.counted(store.clock.now()).calls == 1001


async def test_the_fleet_is_told_of_failures_once_a_second_at_most(
    mongodb_uri: str, database_name: str
) -> None:
    async with logged_store(mongodb_uri, database_name) as (store, log), gate_of(store) as gate:
        await answers(gate, 10)
        began = store.clock.now()
        for _ in range(40):
            show(gate, CallResult.WORKED, 3)
            show(gate, CallResult.FAILED)
            await asyncio.sleep(0.02)
        await until(lambda: gate._view.stored.counted(began).calls == 160, seconds=30)
        seconds = (store.clock.now() - began).total_seconds()
        told = [name for name, target, _ in log.sent if target == "services" and name == "findAndModify"]
        # A window that is begun takes two commands.
        assert len(told) <= seconds + 3


async def holds_of(gate: ServiceGate, seconds: float, times: int) -> None:
    waits = await asyncio.gather(
        *(gate.admit().failed(broken("rate_limited", answered=True, seconds=seconds)) for _ in range(times))
    )
    assert all(wait is not None and wait.refund for wait in waits)


async def test_a_storm_of_refusals_is_one_hold_of_the_whole_fleet(
    mongodb_uri: str, database_name: str
) -> None:
    async with (
        logged_store(mongodb_uri, database_name) as (store, log),
        gate_of(store, concurrency=200) as one,
        Store.connect(mongodb_uri, database=database_name) as other,
        gate_of(other) as two,
    ):
        await answers(one, 200)
        await answers(two, 10)
        began = store.clock.now()
        await holds_of(one, 120, 100)
        hold = (await store.services.read(SERVICE)).holds[RETRY_AFTER]
        assert hold.until is not None
        assert began + timedelta(seconds=120) <= hold.until <= store.clock.now() + timedelta(seconds=126)
        assert "the base service is not itself" in hold.reason
        assert (await one.ask(0)).again_at == hold.until
        await answers(two, 0)
        assert (await two.ask(0)).again_at == hold.until
        written = [name for name, target, _ in log.sent if (name, target) == ("findAndModify", "services")]
        assert len(written) <= 3
        # It counts as no failure.
        state = await store.services.read(SERVICE)
        assert (state.epoch, state.window) == (0, None)


async def test_a_hold_that_cannot_be_written_holds_here_and_is_written_later(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_watch, "_HOLD_LIMIT", timedelta(seconds=0.5))
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        async with gate_of(store) as gate:
            await answers(gate, 10)
            await point.fail("findAndModify", errorCode=24)
            began = store.clock.now()
            wait = await gate.admit().failed(broken("rate_limited", answered=True, seconds=60))
            assert wait is not None
            assert wait.until >= began + timedelta(seconds=60)
            assert (await gate.ask(0)).again_at == wait.until
            assert (await store.services.read(SERVICE)).holds == {}
            await point.off()

            await until(lambda: gate._view.stored.holds, seconds=30)
            assert RETRY_AFTER in (await store.services.read(SERVICE)).holds
            assert (await gate.ask(0)).may_start == 0


async def test_a_failed_report_is_told_again(mongodb_uri: str, database_name: str) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        async with gate_of(store) as gate:
            await answers(gate, 10)
            await point.fail("find", errorCode=24)
            with pytest.raises(StoreUnavailable):
                await store.services.read(SERVICE)
            await point.off()
            show(gate, CallResult.UNREACHABLE, 5)
            await until(lambda: gate._view.stored.breaker.state is BreakerState.OPEN, seconds=30)


async def test_without_notifications_it_looks_again_within_a_second_or_so(store: Store) -> None:
    async with gate_of(store) as gate:
        await answers(gate, 10)
        silence(store)
        gate._watch.look()
        now = store.clock.now()
        await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
        await answers(gate, 0)


async def test_the_gate_is_asked_for_the_first_time_before_it_runs(store: Store) -> None:
    now = store.clock.now()
    await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
    gate = ServiceGate(
        store,
        service=SERVICE,
        queues=("default",),
        worker_id="worker",
        concurrency=4,
        lease=timedelta(seconds=30),
        poll_interval=timedelta(hours=1),
        on_change=lambda: None,
    )
    assert (await gate.ask(0)).may_start == 0
    await store.contexts.insert([a_context()])
    assert (await gate.ask(0)).may_start == 0
