"""Probe and admission: one attempt in the whole fleet finds out whether a service works again."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.call_result import CallResult
from agent_service.domain.errors import BaseServiceRejected
from agent_service.domain.service_state import (
    RETRY_AFTER,
    BreakerState,
    Hold,
    ProbeLease,
    ServiceState,
    permission,
    probing,
)
from agent_service.store import Store
from agent_service.workers.admission import Admission
from agent_service.workers.service_gate import ServiceGate
from tests.support.contexts import SECOND, a_context
from tests.support.fail_points import fragile_store
from tests.support.service_gates import SERVICE, answers, break_service, broken, gate_of, two_gates
from tests.support.waiting import until
from tests.support.worker_tools import logged_store

Raw = AsyncDatabase[dict[str, Any]]


async def the_probe(gate: ServiceGate) -> Admission:
    """Take the probe, which nobody else wants."""
    assert (await gate.ask(0)).may_start == 1
    assert gate.may_start(0) == 1
    return gate.admit()


async def moved_from(store: Store, epoch: int) -> ServiceState:
    """The state as soon as it has another epoch."""

    async def read() -> ServiceState | None:
        state = await store.services.read(SERVICE)
        return state if state.epoch != epoch else None

    state: ServiceState = await until(read, seconds=30)
    return state


async def test_who_has_no_slot_for_the_probe_leaves_it_to_others(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    await break_service(store)
    await store.contexts.insert([a_context()])
    async with two_gates(mongodb_uri, database_name) as (full, free):
        before = await store.services.read(SERVICE)
        assert (await full.ask(10)).may_start == 0
        assert await store.services.read(SERVICE) == before
        assert (await free.ask(9)).may_start == 1


async def test_one_process_of_many_gets_the_probe_and_the_others_wait_for_what_comes_of_it(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    await break_service(store)
    await store.contexts.insert([a_context(), a_context()])
    async with two_gates(mongodb_uri, database_name) as (one, two):
        asked = await asyncio.gather(one.ask(0), two.ask(0))
        assert sorted(answer.may_start for answer in asked) == [0, 1]
        winner, loser = (one, two) if asked[0].may_start else (two, one)
        assert (loser.may_start(0), winner.may_start(0)) == (0, 1)
        state = await store.services.read(SERVICE)
        assert (state.breaker.state, state.epoch) == (BreakerState.PROBING, 2)
        assert state.breaker.probe is not None
        assert (await loser.ask(0)) == replace(asked[0], may_start=0, again_at=state.breaker.probe.expires_at)
        winner.admit().succeeded()
        # The service is called again, one by one at first, and everybody is notified.
        await until(lambda: loser._view.stored.breaker.state is BreakerState.RAMPING, seconds=30)
        assert (await loser.ask(0)).may_start >= 1


async def test_where_nothing_waits_nobody_probes_and_nothing_is_written(
    mongodb_uri: str, database_name: str
) -> None:
    async with logged_store(mongodb_uri, database_name) as (store, log):
        await break_service(store)
        await store.contexts.insert([a_context(queue="another"), a_context(service="analysis")])
        async with gate_of(store) as gate:
            before = len(log.sent)
            for _ in range(5):
                assert (await gate.ask(0)).may_start == 0
            assert {name for name, _, _ in log.sent[before:]} <= {"find", "aggregate", "getMore"}


async def test_a_probe_whose_worker_died_is_taken_over_when_its_lease_ends(store: Store) -> None:
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        state = await break_service(store)
        now = store.clock.now()
        lease = ProbeLease(token="dead", worker="dead", expires_at=now + 4 * SECOND)
        taken = await store.services.move(state, probing(state, now, lease))
        await until(lambda: gate._view.stored == taken, seconds=30)
        answer = await gate.ask(0)
        assert (answer.may_start, answer.again_at) == (0, lease.expires_at)
        await answers(gate, 1)
        assert store.clock.now() >= lease.expires_at
    breaker = (await store.services.read(SERVICE)).breaker
    # The gate has stopped and gave the probe back.
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)


async def test_a_probe_is_renewed_while_its_attempt_runs(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    await break_service(store)
    await store.contexts.insert([a_context(), a_context()])
    async with (
        gate_of(store, lease=4 * SECOND) as gate,
        Store.connect(mongodb_uri, database=database_name) as other,
        gate_of(other) as impatient,
    ):
        admission = await the_probe(gate)
        ends: set[datetime] = set()

        async def renewed() -> str | None:
            probe = (await store.services.read(SERVICE)).breaker.probe
            assert probe is not None
            ends.add(probe.expires_at)
            assert (await impatient.ask(0)).may_start == 0
            return "yes" if store.clock.now() > min(ends) else None

        answered: str = await until(renewed, seconds=30)
        assert answered
        assert len(ends) > 1
        assert (await store.services.read(SERVICE)).epoch == 2
        admission.succeeded()
        assert (await moved_from(store, 2)).breaker.state is BreakerState.RAMPING


async def test_what_a_probe_finds_out_after_it_was_taken_over_changes_nothing(store: Store) -> None:
    await break_service(store)
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        admission = await the_probe(gate)
        state = await store.services.read(SERVICE)
        now = store.clock.now()
        other = ProbeLease(token="other", worker="other", expires_at=now + 60 * SECOND)
        taken = await store.services.move(state, probing(state, now, other))
        assert taken is not None
        admission.succeeded()
    assert await store.services.read(SERVICE) == taken


@pytest.mark.parametrize("answered", [True, False])
async def test_a_failed_probe_opens_the_breaker_for_longer_and_steps_behind_the_next(
    store: Store, answered: bool
) -> None:
    await break_service(store, opened=2)
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        wait = await (await the_probe(gate)).failed(broken("timeout", answered=answered))
        state = await moved_from(store, 2)
    assert (state.breaker.state, state.breaker.opened, state.breaker.probe) == (BreakerState.OPEN, 3, None)
    assert state.breaker.until is not None
    assert state.breaker.since is not None
    assert state.breaker.until - state.breaker.since == timedelta(seconds=20)
    assert "the base service is not itself" in state.breaker.reason
    assert wait is not None
    assert wait.refund is not answered
    assert timedelta(seconds=1) <= wait.until - state.breaker.until <= timedelta(seconds=3)


async def test_a_refusal_of_this_input_shows_that_the_service_works(store: Store) -> None:
    await break_service(store)
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        assert await (await the_probe(gate)).failed(BaseServiceRejected("rejected", "no")) is None
        assert (await moved_from(store, 2)).breaker.state is BreakerState.RAMPING


async def test_a_probe_that_shows_nothing_goes_back_and_may_be_taken_at_once(store: Store) -> None:
    await break_service(store, opened=4)
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        for epoch, end in ((2, "bug"), (4, "over"), (6, "unused")):
            if end == "unused":
                assert (await gate.ask(0)).may_start == 1
                gate.give_back_probe()
            elif end == "over":
                (await the_probe(gate)).over()
            else:
                assert await (await the_probe(gate)).failed(ValueError("a bug")) is None
            state = await moved_from(store, epoch)
            assert (state.breaker.state, state.breaker.opened) == (BreakerState.OPEN, 4)
            assert permission(state, store.clock.now(), concurrency=3).probe
            await until(lambda state=state: gate._view.stored == state, seconds=30)


async def test_a_probe_that_is_told_to_wait_makes_a_hold_and_goes_back(store: Store) -> None:
    await break_service(store)
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        wait = await (await the_probe(gate)).failed(broken("rate_limited", answered=True, seconds=60))
        state = await moved_from(store, 2)
        assert wait is not None
        assert wait.refund
        assert (state.breaker.state, state.holds[RETRY_AFTER].until) == (BreakerState.OPEN, wait.until)
        assert (await gate.ask(0)).may_start == 0


async def test_a_hold_that_begins_after_the_probe_was_taken_keeps_it_from_beginning(store: Store) -> None:
    await break_service(store)
    await store.contexts.insert([a_context()])
    async with gate_of(store) as gate:
        assert (await gate.ask(0)).may_start == 1
        now = store.clock.now()
        await store.services.hold(SERVICE, Hold(name="paused", reason="", since=now, until=None))
        await until(lambda: gate._view.stored.holds, seconds=30)
        assert gate.may_start(0) == 0


async def test_how_a_probe_ended_is_written_as_soon_as_mongodb_answers(
    mongodb_uri: str, database_name: str
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        await break_service(store)
        await store.contexts.insert([a_context()])
        async with gate_of(store) as gate:
            admission = await the_probe(gate)
            await point.fail("findAndModify", times=3, errorCode=24)
            admission.succeeded()
            assert (await moved_from(store, 2)).breaker.state is BreakerState.RAMPING


async def test_only_the_first_report_of_an_attempt_counts(store: Store) -> None:
    async with gate_of(store) as gate:
        await answers(gate, 10)
        admission = gate.admit()
        admission.succeeded()
        assert await admission.failed(broken("connect_failed")) is None
        admission.over()
        assert gate._view.tally.counts == CallResult.WORKED.value
