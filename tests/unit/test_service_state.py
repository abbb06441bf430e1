"""ServiceState: who may call when, whatever moves the breaker makes and whatever holds there are."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.service_state import (
    BREAKER,
    FIRST_OPEN,
    LONGEST_OPEN,
    RAMP,
    WINDOW,
    Breaker,
    BreakerState,
    Counts,
    Hold,
    Permission,
    ProbeLease,
    ServiceState,
    Window,
    breaker_at,
    closed,
    given_back,
    holds_of,
    opened,
    permission,
    probing,
    ramping,
    why_broken,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CLOSED = ServiceState(service="generation")
PROBE = ProbeLease(token="token", worker="worker", expires_at=NOW + 30 * SECOND)

moments = st.timedeltas(timedelta(0), timedelta(hours=1)).map(lambda passed: NOW + passed)
ends = st.none() | moments
numbers = st.integers(0, 100)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    calls = draw(numbers)
    answered = draw(st.integers(0, calls))
    failures = draw(st.integers(calls - answered, calls))
    unreachable = draw(st.integers(0, calls - answered))
    return Counts(calls=calls, failures=failures, unreachable=unreachable, answered=answered)


holds = st.lists(ends, max_size=4).map(
    lambda untils: {
        str(number): Hold(name=str(number), reason="", since=NOW, until=until)
        for number, until in enumerate(untils)
    }
)


@st.composite
def states(draw: st.DrawFn) -> ServiceState:
    """A state as a service gets into it: by moves, each at its time."""
    state, now = CLOSED, NOW
    for choice in draw(st.lists(st.sampled_from(["open", "probe", "answer", "give back", "close"]))):
        now += draw(st.timedeltas(timedelta(0), timedelta(minutes=6)))
        match (breaker_at(state, now).state, choice):
            case (BreakerState.CLOSED | BreakerState.RAMPING | BreakerState.PROBING, "open"):
                breaker = opened(state, now, "because")
            case (BreakerState.OPEN, "probe") if permission(state, now, concurrency=1).probe:
                breaker = probing(state, now, replace(PROBE, expires_at=now + 30 * SECOND))
            case (BreakerState.PROBING, "answer"):
                breaker = ramping(state, now)
            case (BreakerState.PROBING, "give back"):
                breaker = given_back(state, now)
            case (BreakerState.RAMPING, "close"):
                breaker = closed(now)
            case _:
                continue
        state = replace(state, epoch=state.epoch + 1, breaker=breaker)
    window = draw(st.none() | st.builds(Window, started_at=st.just(now), counts=counts()))
    return replace(state, holds=draw(holds), window=window)


def with_breaker(state: BreakerState, *, opened: int = 0) -> ServiceState:
    return replace(CLOSED, breaker=Breaker(state=state, since=NOW, opened=opened))


def counted(counts: Counts, state: ServiceState = CLOSED) -> ServiceState:
    return replace(state, window=Window(started_at=NOW, counts=counts))


@given(state=states(), now=moments, concurrency=st.integers(1, 1000))
def test_a_worker_never_gets_more_than_its_slots_and_never_has_to_ask_again_at_once(
    state: ServiceState, now: datetime, concurrency: int
) -> None:
    allowed = permission(state, now, concurrency=concurrency)
    assert 0 <= allowed.limit <= concurrency
    assert not allowed.probe or allowed.limit == 1
    assert allowed.changes_at is None or allowed.changes_at > now


@given(state=states(), now=moments)
def test_any_hold_that_has_not_ended_keeps_everybody_away_until_the_last_one_ends(
    state: ServiceState, now: datetime
) -> None:
    active = [hold for hold in state.holds.values() if hold.active(now)]
    if not active:
        return
    allowed = permission(state, now, concurrency=5)
    assert (allowed.limit, allowed.probe) == (0, False)
    untils = [hold.until for hold in active if hold.until is not None]
    if len(untils) < len(active):
        assert allowed.changes_at is None
    else:
        assert allowed.changes_at == max(untils)
        later = permission(state, max(untils), concurrency=5)
        assert later == permission(replace(state, holds={}), max(untils), concurrency=5)


@given(state=states(), now=moments)
def test_an_open_breaker_is_one_of_the_holds_and_nothing_else_is(state: ServiceState, now: datetime) -> None:
    names = [hold.name for hold in holds_of(state, now)]
    shut = state.breaker.state in (BreakerState.OPEN, BreakerState.PROBING)
    assert (BREAKER in names) == shut
    assert set(names) - {BREAKER} == {name for name, hold in state.holds.items() if hold.active(now)}


@given(state=states(), now=moments)
def test_only_a_service_that_is_called_can_break(state: ServiceState, now: datetime) -> None:
    if why_broken(state, now) is not None:
        assert breaker_at(state, now).state in (BreakerState.CLOSED, BreakerState.RAMPING)


@given(one=counts(), other=counts())
def test_counts_add_up(one: Counts, other: Counts) -> None:
    together = one + other
    assert together.calls == one.calls + other.calls
    assert together.failures == one.failures + other.failures
    assert together.unreachable == one.unreachable + other.unreachable
    assert together.answered == one.answered + other.answered


def test_a_service_that_nobody_knows_anything_of_is_called() -> None:
    assert permission(CLOSED, NOW, concurrency=7) == Permission(limit=7)
    assert holds_of(CLOSED, NOW) == []
    assert why_broken(CLOSED, NOW) is None


@pytest.mark.parametrize(
    ("numbers", "broken"),
    [
        ({"calls": 20, "failures": 10, "answered": 20}, True),
        ({"calls": 19, "failures": 19, "answered": 19}, False),
        ({"calls": 20, "failures": 9, "answered": 20}, False),
        ({"calls": 5, "failures": 5, "unreachable": 5}, True),
        ({"calls": 4, "failures": 4, "unreachable": 4}, False),
        ({"calls": 6, "failures": 5, "unreachable": 5, "answered": 1}, False),
        ({"calls": 19, "failures": 19}, False),
    ],
)
def test_the_breaker_opens_for_half_of_enough_calls_or_where_nobody_gets_through(
    numbers: dict[str, int], broken: bool
) -> None:
    assert (why_broken(counted(Counts(**numbers)), NOW) is not None) == broken


def test_a_window_that_is_over_says_nothing() -> None:
    state = counted(Counts(calls=20, failures=20))
    assert why_broken(state, NOW + WINDOW - SECOND) is not None
    assert why_broken(state, NOW + WINDOW) is None


@pytest.mark.parametrize(
    ("calls", "failures", "broken"), [(3, 2, True), (4, 2, True), (2, 2, False), (3, 1, False)]
)
def test_a_service_that_is_tried_anew_gets_little_credit(calls: int, failures: int, broken: bool) -> None:
    state = with_breaker(BreakerState.RAMPING, opened=2)
    state = counted(Counts(calls=calls, failures=failures, answered=calls), state)
    assert (why_broken(state, NOW) is not None) == broken


def test_each_opening_in_a_row_lasts_twice_as_long_up_to_a_limit() -> None:
    state, lengths = CLOSED, []
    for _ in range(12):
        state = replace(state, breaker=opened(state, NOW, "because"))
        assert state.breaker.until is not None
        lengths.append(state.breaker.until - NOW)
    doubled = [FIRST_OPEN * 2**number for number in range(6)]
    assert lengths == [*doubled, *[LONGEST_OPEN] * 6]
    assert replace(state.breaker, opened=10**9).state is BreakerState.OPEN
    huge = replace(state, breaker=replace(state.breaker, opened=10**9))
    assert opened(huge, NOW, "because").until == NOW + LONGEST_OPEN


def test_the_openings_are_counted_through_probe_and_ramp_and_forgotten_after_the_ramp() -> None:
    state = replace(CLOSED, breaker=opened(CLOSED, NOW, "because"))
    state = replace(state, breaker=probing(state, NOW, PROBE))
    again = opened(state, NOW, "the probe failed")
    assert (again.state, again.opened, again.probe) == (BreakerState.OPEN, 2, None)
    state = replace(state, breaker=ramping(state, NOW))
    assert opened(state, NOW + RAMP - SECOND, "in the ramp").opened == 2
    assert opened(state, NOW + RAMP, "after it").opened == 1


def test_an_open_breaker_lets_nobody_call_and_then_one_probe() -> None:
    state = replace(CLOSED, breaker=opened(CLOSED, NOW, "because"))
    until = NOW + FIRST_OPEN
    shut = Permission(limit=0, changes_at=until)
    assert permission(state, NOW, concurrency=5) == shut
    assert permission(state, until - SECOND, concurrency=5) == shut
    assert permission(state, until, concurrency=5) == Permission(limit=1, probe=True)


def test_while_one_probes_nobody_calls_until_its_lease_has_ended() -> None:
    state = replace(CLOSED, breaker=probing(with_breaker(BreakerState.OPEN), NOW, PROBE))
    assert permission(state, NOW, concurrency=5) == Permission(limit=0, changes_at=PROBE.expires_at)
    assert permission(state, PROBE.expires_at, concurrency=5).probe


def test_a_probe_that_is_given_back_can_be_taken_at_once() -> None:
    state = replace(CLOSED, breaker=probing(with_breaker(BreakerState.OPEN, opened=3), NOW, PROBE))
    state = replace(state, breaker=given_back(state, NOW))
    assert permission(state, NOW, concurrency=5).probe
    assert state.breaker.opened == 3


def test_the_ramp_doubles_each_second_and_then_the_service_is_closed() -> None:
    state = with_breaker(BreakerState.RAMPING, opened=1)
    limits = [permission(state, NOW + n * SECOND, concurrency=100).limit for n in range(11)]
    assert limits == [1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100]
    half = NOW + timedelta(seconds=2.5)
    assert permission(state, half, concurrency=100).changes_at == NOW + 3 * SECOND
    assert breaker_at(state, NOW + RAMP - SECOND).state is BreakerState.RAMPING
    assert breaker_at(state, NOW + RAMP).state is BreakerState.CLOSED


def untils_of(found: Sequence[Hold]) -> dict[str, datetime | None]:
    return {hold.name: hold.until for hold in found}


def test_the_breaker_is_told_with_its_reason_and_its_end() -> None:
    state = replace(CLOSED, breaker=opened(CLOSED, NOW, "9 of 9 calls failed"))
    [hold] = holds_of(state, NOW)
    assert (hold.name, hold.reason, hold.until) == (BREAKER, "9 of 9 calls failed", NOW + FIRST_OPEN)
    state = replace(state, breaker=probing(state, NOW, PROBE))
    assert untils_of(holds_of(state, NOW)) == {BREAKER: PROBE.expires_at}
