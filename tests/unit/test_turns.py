"""Whose turn it is: the same order for everybody, a fair share for each, and no wait for who is alone."""

from collections import Counter
from datetime import timedelta

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.line import Line
from agent_service.store import Store
from agent_service.store.notifier.notification import Notification, Topic
from agent_service.store.roster import Colleague
from agent_service.workers import turns
from agent_service.workers.claimer import Claimer
from agent_service.workers.turns import STEP_SECONDS, Turns, patience, place_of
from tests.support.api import memory_store

WORKERS = [f"worker-{number}" for number in range(8)]
LIMIT = timedelta(seconds=20)
NOW_OR_NEVER = timedelta(0)


def test_every_worker_has_another_place_whatever_the_order_in_which_they_are_known() -> None:
    for number in range(20):
        context = f"context-{number}"
        assert sorted(place_of(worker, WORKERS, context) for worker in WORKERS) == list(range(8))
        for worker in WORKERS:
            assert place_of(worker, WORKERS[::-1], context) == place_of(worker, WORKERS, context)


def test_each_worker_is_the_first_for_about_as_many_contexts() -> None:
    firsts = Counter(
        worker
        for number in range(4_000)
        for worker in WORKERS
        if place_of(worker, WORKERS, f"context-{number}") == 0
    )
    assert len(firsts) == 8
    assert min(firsts.values()) > 300


def test_a_worker_that_is_not_known_yet_has_a_place_as_well() -> None:
    assert place_of("new", [], "context") == 0
    assert {place_of("new", WORKERS, f"context-{number}") for number in range(500)} == set(range(9))


def test_those_who_come_later_wait_longer_and_nobody_waits_long() -> None:
    steps = [round(patience(place) / STEP_SECONDS) for place in (0, 1, 2, 3, 4, 7, 8, 199)]
    assert steps == [0, 1, 2, 2, 3, 3, 4, 8]
    assert patience(199) <= 0.4


@pytest.fixture
def subscription(monkeypatch: pytest.MonkeyPatch) -> Turns:
    """That of the first of these workers; nobody comes to his turn by waiting."""
    monkeypatch.setattr(turns, "STEP_SECONDS", 3_600.0)
    monkeypatch.setattr(turns, "SPREAD_SECONDS", 0.001)
    store = memory_store()
    know(store, *WORKERS)
    claimer = Claimer(
        ContextManager(store),
        service="generation",
        queues=("default",),
        worker_id=WORKERS[0],
        lease=LIMIT,
    )
    return Turns(store, claimer, service="generation", queues=("default",), worker_id=WORKERS[0])


def know(store: Store, *workers: str) -> None:
    """These are known to work."""
    queues = frozenset({"default"})
    store.roster.learn(
        Colleague(id=name, service="generation", queues=queues, process=name) for name in workers
    )


def context_with_place(place: int) -> str:
    """A context for which the first of the workers comes in this place."""
    names = (f"context-{number}" for number in range(10_000))
    return next(name for name in names if place_of(WORKERS[0], WORKERS, name) == place)


def work(context_id: str | None, *, key: str = "generation", queue: str = "default") -> Notification:
    line = None if context_id is None else Line(key, queue, 0, "default")
    return Notification(topic=Topic.WORK, key=key, context_id=context_id, line=line, rank=1)


async def test_who_is_first_is_woken_at_once_and_who_is_not_waits(subscription: Turns) -> None:
    subscription.receive(work(context_with_place(1)))
    assert not await subscription.wait(NOW_OR_NEVER)
    subscription.receive(work(context_with_place(0)))
    assert await subscription.wait(NOW_OR_NEVER)


async def test_who_is_alone_or_knows_nobody_waits_for_nothing(subscription: Turns) -> None:
    for workers in ([], [WORKERS[0]]):
        know(subscription._store, *workers)
        for each in (work(context_with_place(7)), work(None)):
            subscription.receive(each)
            assert await subscription.wait(NOW_OR_NEVER)


async def test_who_waits_comes_to_his_turn_if_nobody_takes_the_context(
    subscription: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "STEP_SECONDS", 0.001)
    subscription.receive(work(context_with_place(7)))
    assert not subscription.notified
    assert await subscription.wait(LIMIT)


async def test_who_hears_that_a_context_was_taken_does_not_wait_for_it_any_more(
    subscription: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription.receive(work(context_with_place(1)))
    subscription.receive(work(context_with_place(2)))
    taken = context_with_place(1)
    subscription.receive(Notification(topic=Topic.TAKEN, key="generation", context_id=taken))
    assert list(subscription._timers) == [context_with_place(2)]


async def test_a_queue_that_a_worker_does_not_take_from_is_not_its_business(subscription: Turns) -> None:
    subscription.receive(work(context_with_place(0), queue="night"))
    subscription.receive(work(context_with_place(1), queue="night"))
    subscription.receive(work(context_with_place(0), key="analysis"))
    assert not subscription.notified
    assert not subscription._timers


async def test_where_nobody_knows_what_there_is_each_looks_soon_but_not_at_the_same_moment(
    subscription: Turns,
) -> None:
    subscription.receive(work(None))
    assert not subscription.notified
    assert await subscription.wait(LIMIT)
    subscription.missed()
    assert not subscription.notified
    assert await subscription.wait(LIMIT)


async def test_where_nobody_can_be_notified_nobody_waits_for_others(
    subscription: Turns,
) -> None:
    subscription._store.notifier._work_reader.available = False
    subscription.receive(work(None))
    assert await subscription.wait(NOW_OR_NEVER)


async def test_a_free_slot_is_no_matter_of_turns(subscription: Turns) -> None:
    subscription.wake()
    assert await subscription.wait(NOW_OR_NEVER)
