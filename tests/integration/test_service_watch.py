"""ServiceWatch: outlives every trouble of MongoDB, and puts the breaker back after its ramp."""

from datetime import timedelta

import pytest

from agent_service.domain import service_state
from agent_service.domain.call_result import CallResult
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.service_state import BreakerState
from agent_service.store import Store
from agent_service.workers import service_watch
from tests.support.fail_points import fragile_store
from tests.support.log_lines import log_lines
from tests.support.service_gates import SERVICE, answers, break_service, gate_of, show
from tests.support.waiting import until


async def test_while_mongodb_is_away_nothing_begins_at_a_broken_service_and_then_the_fleet_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def away(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        raise StoreUnavailable("away")

    async def tried_again() -> bool:
        assert (await gate.ask(0)).may_start == 0
        return tries > 1

    async with gate_of(store) as gate:
        await answers(gate, 10)
        with monkeypatch.context() as patch:
            patch.setattr(store.services, "count", away)
            show(gate, CallResult.SILENT, 20)
            was_tried: bool = await until(tried_again, seconds=30)
            assert was_tried
        await until(lambda: gate._view.stored.breaker.state is BreakerState.OPEN, seconds=30)


async def test_trouble_in_writing_does_not_end_the_watch(mongodb_uri: str, database_name: str) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        async with gate_of(store) as gate:
            await answers(gate, 10)
            await point.fail("findAndModify", "find", errorCode=24)
            with log_lines() as lines:
                show(gate, CallResult.SILENT, 20)
                await until(lambda: lines, seconds=30)
            await point.off()
            # Whether these were counted is not known, so others have to show it.
            show(gate, CallResult.SILENT, 20)
            await until(lambda: gate._view.stored.breaker.state is BreakerState.OPEN, seconds=30)


async def test_after_its_ramp_a_service_is_closed_in_the_store_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (service_state, service_watch):
        monkeypatch.setattr(module, "RAMP", timedelta(seconds=1))
    await break_service(store, opened=3, state=BreakerState.RAMPING)
    async with gate_of(store) as gate:
        await answers(gate, 10)
        await until(lambda: gate._view.stored.breaker.state is BreakerState.CLOSED, seconds=30)
    state = await store.services.read(SERVICE)
    assert (state.breaker.state, state.breaker.opened, state.epoch) == (BreakerState.CLOSED, 0, 2)


async def test_failures_in_the_ramp_open_the_breaker_again_for_longer(store: Store) -> None:
    await break_service(store, opened=3, state=BreakerState.RAMPING)
    async with gate_of(store) as gate:
        await until(lambda: gate._view.loaded, seconds=30)
        show(gate, CallResult.WORKED)
        show(gate, CallResult.FAILED, 2)
        await until(lambda: gate._view.stored.breaker.state is BreakerState.OPEN, seconds=30)
    assert (await store.services.read(SERVICE)).breaker.opened == 4
