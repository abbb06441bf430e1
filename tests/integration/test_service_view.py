"""ServiceView: what is stored and what is not written yet, seen together."""

from dataclasses import replace
from datetime import timedelta

from agent_service.domain.call_result import CallResult
from agent_service.domain.service_state import RETRY_AFTER, Counts, Hold, ServiceState, Window
from agent_service.store import Store
from agent_service.workers.service_view import ServiceView
from tests.support.service_gates import SERVICE

MINUTE = timedelta(minutes=1)


def a_view(store: Store) -> tuple[ServiceView, list[str]]:
    changes: list[str] = []
    return ServiceView(store, SERVICE, on_change=lambda: changes.append("changed")), changes


async def test_whoever_waits_hears_of_what_matters_to_calls_and_of_nothing_else(store: Store) -> None:
    view, changes = a_view(store)
    now = view.now()
    view.learn(ServiceState(service=SERVICE))
    assert changes == ["changed"]
    view.learn(ServiceState(service=SERVICE))
    window = Window(started_at=now, counts=Counts(calls=1, failures=1))
    view.learn(ServiceState(service=SERVICE, window=window))
    assert changes == ["changed"]
    held = ServiceState(
        service=SERVICE, holds={"paused": Hold(name="paused", reason="", since=now, until=None)}
    )
    view.learn(held)
    view.learn(replace(held, epoch=1))
    assert len(changes) == 3


async def test_what_is_suspected_depends_on_what_is_stored_and_on_what_was_counted_since(
    store: Store,
) -> None:
    view, changes = a_view(store)
    window = Window(started_at=view.now(), counts=Counts(calls=3, failures=3, unreachable=3))
    view.learn(ServiceState(service=SERVICE, window=window))
    view.tally.add(CallResult.UNREACHABLE, epoch=0)
    assert not view.suspects()
    view.tally.add(CallResult.UNREACHABLE, epoch=0)
    assert view.suspects()
    view.tally.report()
    assert view.suspects()
    view.tally.told()
    assert not view.suspects()
    view.tally.add(CallResult.UNREACHABLE, epoch=0)
    view.tally.add(CallResult.UNREACHABLE, epoch=0)
    view.tell()
    assert len(changes) == 2
    answered = replace(window, counts=replace(window.counts, calls=4, answered=1))
    view.learn(ServiceState(service=SERVICE, window=answered))
    assert not view.suspects()
    assert len(changes) == 3


async def test_a_hold_that_is_not_written_yet_holds_unless_a_longer_one_is_stored(store: Store) -> None:
    view, _ = a_view(store)
    now = view.now()
    mine = Hold(name=RETRY_AFTER, reason="mine", since=now, until=now + MINUTE)
    longer = replace(mine, reason="longer", until=now + 2 * MINUTE)
    paused = Hold(name="paused", reason="", since=now, until=None)
    view.asked = mine
    view.learn(ServiceState(service=SERVICE, holds={"paused": paused}))
    assert view.state().holds == {"paused": paused, RETRY_AFTER: mine}
    view.learn(ServiceState(service=SERVICE, holds={RETRY_AFTER: longer}))
    assert view.state() == view.stored
    view.asked = replace(mine, until=now + 3 * MINUTE)
    assert view.state().holds == {RETRY_AFTER: view.asked}
