"""The scheduler makes contexts claimable when their time has come, and sleeps until then."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextError, ContextStatus
from agent_service.domain.transitions import retry_at
from agent_service.request_service import RequestService
from agent_service.scheduler import SPREAD, Alarm, Scheduler
from agent_service.store import Store
from agent_service.store.notifier import Notification, Topic
from agent_service.store.outcomes import Outcome
from agent_service.store.roster import Colleague
from tests.support.contexts import a_context
from tests.support.hand_worker import claim
from tests.support.open_subscriptions import forget_later_looks

ERROR = ContextError(code="server_error", message="500", retryable=True)
LIMIT = timedelta(seconds=20)
ONE_STEP = {"service": "generation", "input": {}}


@pytest.fixture
async def scheduler(store: Store) -> AsyncIterator[Scheduler]:
    scheduler, stopping = Scheduler(store), asyncio.Event()
    running = asyncio.create_task(scheduler.run(stopping))
    yield scheduler
    stopping.set()
    async with asyncio.timeout(LIMIT.total_seconds()):
        await running


def scheduled(run_at: datetime) -> Context:
    return a_context(status=ContextStatus.SCHEDULED, run_at=run_at)


async def back_off(store: Store, contexts: ContextManager, delay: timedelta) -> Context:
    """Submit, claim and fail one context, to be tried again after `delay`."""
    await RequestService(store).submit(ONE_STEP)
    (context,) = await claim(contexts, "generation")
    now = contexts.now()
    transition = retry_at(at=now, run_at=now + delay, error=ERROR, chunks=0)
    assert not await contexts.finish([Outcome(context=context, transition=transition)])
    return context


@pytest.mark.usefixtures("scheduler")
async def test_it_promotes_a_context_soon_after_it_is_due_and_not_before(store: Store) -> None:
    contexts = ContextManager(store)
    with store.notifier.subscribe(Topic.WORK) as subscription:
        assert await store.notifier.opened(LIMIT)
        context = await back_off(store, contexts, timedelta(milliseconds=300))
        async with asyncio.timeout(LIMIT.total_seconds()):
            while not (claimed := await claim(contexts, "generation")):
                await subscription.wait(timedelta(seconds=5))
    assert [c.id for c in claimed] == [context.id]
    assert contexts.now() >= claimed[0].run_at - timedelta(milliseconds=20)
    assert claimed[0].attempt == 2


async def test_what_was_asked_to_be_cancelled_is_cancelled_instead_of_promoted(
    store: Store, raw: Any
) -> None:
    contexts = ContextManager(store)
    await back_off(store, contexts, timedelta(0))
    await raw.contexts.update_one({}, {"$set": {"cancel_requested": True}})
    await store.schedule.promote(contexts.now())
    document = await raw.contexts.find_one()
    assert (document["status"], document["settled"]) == ("cancelled", False)


async def test_it_sleeps_while_nothing_is_scheduled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, stopping = 0, asyncio.Event()
    next_run_at = store.schedule.next_run_at
    looked = asyncio.Event()

    async def counting() -> datetime | None:
        nonlocal looks
        looks += 1
        looked.set()
        return await next_run_at()

    monkeypatch.setattr(store.schedule, "next_run_at", counting)
    with store.notifier.subscribe(Topic.SCHEDULE) as subscription:
        await store.notifier.opened(LIMIT)
        await subscription.wait(timedelta(seconds=1))
        forget_later_looks(store)
        running = asyncio.create_task(Scheduler(store).run(stopping))
        await looked.wait()
        # Longer than many a polling interval; nobody is woken, because nothing is scheduled.
        assert not await subscription.wait(timedelta(seconds=1))
        stopping.set()
        await running
    assert looks == 1


async def test_what_is_scheduled_costs_no_question_before_it_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    looks, stopping = 0, asyncio.Event()
    next_run_at = store.schedule.next_run_at

    async def counting() -> datetime | None:
        nonlocal looks
        looks += 1
        return await next_run_at()

    monkeypatch.setattr(store.schedule, "next_run_at", counting)
    with (
        store.notifier.subscribe(Topic.SCHEDULE) as subscription,
        store.notifier.subscribe(Topic.WORK) as work,
    ):
        running = asyncio.create_task(Scheduler(store).run(stopping))
        assert await store.notifier.opened(LIMIT)
        forget_later_looks(store)
        assert await subscription.wait(LIMIT)
        assert await work.wait(LIMIT)
        for hours in range(20):
            await store.contexts.insert([scheduled(store.clock.now() + timedelta(hours=20 - hours))])
            assert await subscription.wait(LIMIT)
        await store.contexts.insert([scheduled(store.clock.now() + timedelta(seconds=0.5))])
        # Nobody would look for minutes if it had not been heard when this is due.
        assert await work.wait(LIMIT)
        stopping.set()
        await running
    # At the start, when the stream was opened, when it was due, and after that.
    assert looks <= 5
    assert warnings == []


async def test_an_alarm_rings_for_the_first_of_what_it_hears(store: Store) -> None:
    alarm, now = Alarm(store), store.clock.now()
    alarm.expect(now + timedelta(hours=2))
    for later in (timedelta(hours=3), timedelta(hours=2)):
        alarm.receive(Notification(topic=Topic.SCHEDULE, run_at=now + later))
    assert not alarm._timers
    alarm.receive(Notification(topic=Topic.SCHEDULE, run_at=now + timedelta(hours=1)))
    assert not await alarm.wait(timedelta(0))
    alarm.receive(Notification(topic=Topic.SCHEDULE, run_at=now))
    assert await alarm.wait(LIMIT)
    alarm.reset()
    alarm.receive(Notification(topic=Topic.WORK, run_at=now))
    assert not alarm._timers
    alarm.receive(Notification(topic=Topic.SCHEDULE))
    assert alarm.notified


async def test_only_who_is_not_alone_may_let_another_one_look_first(store: Store) -> None:
    alarm, passed = Alarm(store), store.clock.now() - timedelta(days=1)

    def longest_wait(*present: str) -> timedelta:
        store.roster.learn(
            Colleague(id=name, service="s", queues=frozenset(), process=name) for name in present
        )
        # What is due since long is due at once; so far away it is only the share of chance that is left.
        due = store.clock.now() + timedelta(hours=1)
        waits = [alarm.due_in(due) + (store.clock.now() - due) for _ in range(200)]
        assert alarm.due_in(passed) == timedelta(0)
        return max(waits) - min(waits)

    store.roster.join("mine")
    # Beside the time that passes while they are computed.
    assert longest_wait("mine") < SPREAD / 2 < longest_wait("mine", "other")
