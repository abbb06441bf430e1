"""What is stored of a service: each move is made by exactly one, counts add up, holds are independent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import ContextStatus
from agent_service.domain.service_state import (
    RETRY_AFTER,
    WINDOW,
    BreakerState,
    Counts,
    Hold,
    ProbeLease,
    ServiceState,
    opened,
    probing,
    ramping,
)
from agent_service.store import Store
from tests.support.contexts import NOW, SECOND, a_context, many_contexts
from tests.support.explained_commands import CommandRecorder, Plan, explain

FAILED = Counts(calls=2, failures=1, answered=2)


@asynccontextmanager
async def another_store(uri: str, name: str) -> AsyncIterator[Store]:
    async with Store.connect(uri, database=name) as store:
        await store.prepare()
        yield store


def a_probe(name: str, expires_at: datetime = NOW + 30 * SECOND) -> ProbeLease:
    return ProbeLease(token=name, worker=name, expires_at=expires_at)


async def test_a_service_about_which_nothing_is_stored_is_closed(any_store: Store) -> None:
    assert await any_store.services.read("generation") == ServiceState(service="generation")
    assert await any_store.services.all() == []


async def test_everything_that_is_stored_is_read_back(any_store: Store) -> None:
    services = any_store.services
    await services.hold("generation", Hold(name="paused", reason="maintenance", since=NOW, until=None))
    counted = await services.count("generation", FAILED, epoch=0, now=NOW)
    assert counted is not None
    moved = await services.move(counted, opened(counted, NOW, "because"))
    assert moved is not None
    taken = await services.move(moved, probing(moved, NOW, a_probe("mine")))
    assert taken is not None
    assert taken == await services.read("generation")
    assert (taken.epoch, taken.window) == (2, None)
    assert taken.breaker == probing(moved, NOW, a_probe("mine"))
    assert await services.all() == [taken]


@pytest.mark.parametrize("stored", [False, True])
async def test_of_many_that_move_the_breaker_at_once_one_does(
    mongodb_uri: str, database_name: str, store: Store, stored: bool
) -> None:
    if stored:
        await store.services.hold("generation", Hold(name="paused", reason="", since=NOW, until=NOW))
    async with another_store(mongodb_uri, database_name) as other:
        state = await store.services.read("generation")
        moves = await asyncio.gather(
            *(
                each.services.move(state, opened(state, NOW, f"{number}"))
                for number in range(10)
                for each in (store, other)
            )
        )
        won = [moved for moved in moves if moved is not None]
        assert len(won) == 1
        assert won[0] == await other.services.read("generation")
        probes = await asyncio.gather(
            *(
                each.services.move(won[0], probing(won[0], NOW, a_probe(f"{number}")))
                for number in range(10)
                for each in (store, other)
            )
        )
        assert sum(moved is not None for moved in probes) == 1


async def test_a_probe_is_taken_over_only_if_its_lease_was_not_renewed_since(any_store: Store) -> None:
    services = any_store.services
    closed = await services.read("generation")
    state = await services.move(closed, opened(closed, NOW, "because"))
    assert state is not None
    mine = await services.move(state, probing(state, NOW, a_probe("mine")))
    assert mine is not None
    assert await services.renew_probe(mine, a_probe("mine", NOW + 60 * SECOND))
    assert not await services.renew_probe(mine, a_probe("other", NOW + 90 * SECOND))
    # Whoever read it before sees an end that has passed by now.
    assert await services.move(mine, probing(mine, NOW, a_probe("other"))) is None
    seen = await services.read("generation")
    taken = await services.move(seen, probing(seen, NOW, a_probe("other")))
    assert taken is not None
    assert not await services.renew_probe(mine, a_probe("mine", NOW + 90 * SECOND))
    # What the first one found out comes too late.
    assert await services.move(mine, ramping(mine, NOW)) is None
    assert (await services.read("generation")).breaker.state is BreakerState.PROBING


async def test_a_delayed_renewal_shortens_nothing(store: Store) -> None:
    state = await store.services.move(
        ServiceState(service="generation"), probing(ServiceState(service="generation"), NOW, a_probe("mine"))
    )
    assert state is not None
    assert await store.services.renew_probe(state, a_probe("mine", NOW - SECOND))
    read = (await store.services.read("generation")).breaker.probe
    assert read == a_probe("mine")


async def test_all_counts_of_a_window_add_up_whoever_begins_it(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    async with another_store(mongodb_uri, database_name) as other:
        for now in (NOW, NOW + WINDOW):
            told = await asyncio.gather(
                *(
                    each.services.count("generation", FAILED, epoch=0, now=now)
                    for _ in range(10)
                    for each in (store, other)
                )
            )
            assert None not in told
            state = await store.services.read("generation")
            assert state.counted(now) == Counts(calls=40, failures=20, answered=40)


async def test_calls_of_an_earlier_epoch_are_not_counted(any_store: Store) -> None:
    services = any_store.services
    closed = await services.read("generation")
    state = await services.move(closed, opened(closed, NOW, "because"))
    assert state is not None
    assert await services.count("generation", FAILED, epoch=0, now=NOW) is None
    counted = await services.count("generation", FAILED, epoch=1, now=NOW)
    assert counted is not None
    assert counted.counted(NOW) == FAILED


@pytest.mark.conformance
async def test_a_hold_that_the_service_asked_for_only_ever_grows(any_store: Store) -> None:
    services = any_store.services
    for seconds in (10, 30, 20):
        await services.hold_until("generation", NOW + seconds * SECOND, reason=f"{seconds}", now=NOW)
    assert (await services.read("generation")).holds[RETRY_AFTER].until == NOW + 30 * SECOND


async def test_holds_of_several_names_are_independent(any_store: Store) -> None:
    services = any_store.services
    paused = Hold(name="paused", reason="$reason", since=NOW, until=None)
    night = Hold(name="night", reason="until tomorrow", since=NOW, until=NOW + timedelta(hours=8))
    await services.hold("generation", paused)
    await services.hold("generation", night)
    state = await services.hold_until("generation", NOW + SECOND, reason="busy", now=NOW)
    assert dict(state.holds) == {
        "paused": paused,
        "night": night,
        RETRY_AFTER: Hold(name=RETRY_AFTER, reason="busy", since=NOW, until=NOW + SECOND),
    }
    assert await services.lift("generation", "paused")
    assert not await services.lift("generation", "paused")
    assert set((await services.read("generation")).holds) == {"night", RETRY_AFTER}
    assert (await services.read("generation")).epoch == 0


async def test_many_may_hold_a_service_at_the_same_moment(store: Store) -> None:
    untils = [NOW + number * SECOND for number in range(1, 21)]
    await asyncio.gather(
        *(store.services.hold_until("generation", until, reason="", now=NOW) for until in untils)
    )
    assert (await store.services.read("generation")).holds[RETRY_AFTER].until == untils[-1]


@pytest.mark.parametrize(
    "damage",
    [
        {"breaker": "open"},
        {"breaker": {"state": "ajar"}},
        {"breaker": {"state": "open", "until": "soon"}},
        {"breaker": {"state": "probing", "probe": {"token": "t"}}},
        {"window": {"calls": "many"}},
        {"holds": {"paused": True}},
        {"holds": {"paused": {"until": 5, "since": 5}}},
        {"epoch": "first"},
    ],
)
async def test_a_document_that_somebody_has_spoilt_holds_nobody(
    store: Store, raw: AsyncDatabase[dict[str, Any]], damage: dict[str, Any]
) -> None:
    await raw.services.insert_one({"_id": "generation", "epoch": 3} | damage)
    state = await store.services.read("generation")
    assert (state.breaker.state, dict(state.holds)) == (BreakerState.CLOSED, {})
    assert state.window is None
    # What is right beside it still counts.
    await store.services.hold("generation", Hold(name="night", reason="", since=NOW, until=None))
    assert set((await store.services.read("generation")).holds) == {"night"}
    assert [each.service for each in await store.services.all()] == ["generation"]
    # Counting ends whatever there is.
    await store.services.count("generation", FAILED, epoch=state.epoch, now=NOW)


async def test_only_what_can_be_claimed_in_these_queues_waits(any_store: Store) -> None:
    services = any_store.services
    assert not await services.has_waiting("generation", ["default"])
    await any_store.contexts.insert([a_context(queue="fast"), a_context(service="analysis")])
    assert not await services.has_waiting("generation", ["default"])
    assert await services.has_waiting("generation", ["default", "fast"])
    assert await services.has_waiting("generation", ["fast"])
    await any_store.contexts.insert([a_context()])
    assert await services.depth("generation") == 2
    assert await services.depth("communication") == 0


async def plans_of(raw: AsyncDatabase[dict[str, Any]], recorder: CommandRecorder) -> list[Plan]:
    """How the server runs what was sent since the last look."""
    sent = recorder.named("find", "findAndModify", "aggregate")
    recorder.sent.clear()
    return [plan for command in sent for plan in await explain(raw, command)]


async def test_looking_for_work_looks_at_one_context_and_counting_it_at_what_waits(
    recorded_store: Store, recorder: CommandRecorder, raw: AsyncDatabase[dict[str, Any]]
) -> None:
    store = recorded_store
    kinds: list[dict[str, Any]] = [{}, {"queue": "fast"}, {"queue": "slow"}, {"service": "analysis"}]
    await store.contexts.insert([context for kind in kinds for context in many_contexts(50, **kind)])
    blocked = many_contexts(50, status=ContextStatus.BLOCKED, waiting_on=("other",))
    await store.contexts.insert(blocked)
    recorder.sent.clear()
    for queues in (["default"], ["default", "fast"], ["none"]):
        found = await store.services.has_waiting("generation", queues)
        [plan] = await plans_of(raw, recorder)
        assert plan.indexes == {"lines"}
        assert not {"COLLSCAN", "SORT"} & set(plan.stages)
        assert plan.documents <= found
        assert plan.keys <= len(queues)
    assert await store.services.depth("generation") == 150
    [plan] = await plans_of(raw, recorder)
    assert plan.indexes == {"lines"}
    # One more, behind the last one.
    assert (plan.keys, plan.documents) == (151, 0)


async def test_whatever_is_done_about_a_service_looks_at_its_document_only(
    recorded_store: Store, recorder: CommandRecorder, raw: AsyncDatabase[dict[str, Any]]
) -> None:
    services = recorded_store.services
    for number in range(50):
        await services.hold_until(f"service{number}", NOW, reason="", now=NOW)
    recorder.sent.clear()
    state = await services.read("service7")
    await services.count("service7", FAILED, epoch=0, now=NOW)
    await services.count("service7", FAILED, epoch=0, now=NOW)
    moved = await services.move(state, probing(state, NOW, a_probe("mine")))
    assert moved is not None
    await services.renew_probe(moved, a_probe("mine"))
    await services.hold("service7", Hold(name="paused", reason="", since=NOW, until=None))
    await services.lift("service7", "paused")
    plans = await plans_of(raw, recorder)
    assert len(plans) >= 7
    for plan in plans:
        assert plan.indexes == {"_id_"}
        assert (plan.keys, plan.documents) == (1, 1)
