"""The scheduler makes contexts claimable when their time has come, and sleeps until then."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextError
from agent_service.domain.transitions import retry_at
from agent_service.request_service import RequestService
from agent_service.scheduler import Scheduler
from agent_service.store import Store
from agent_service.store.doorbell import Topic
from agent_service.store.outcomes import Outcome
from tests.support.hand_worker import claim

ERROR = ContextError(code="server_error", message="500", retryable=True)
ONE_STEP = {"service": "generation", "input": {}}


@pytest.fixture
async def scheduler(store: Store) -> AsyncIterator[Scheduler]:
    scheduler, stopping = Scheduler(store), asyncio.Event()
    running = asyncio.create_task(scheduler.run(stopping))
    yield scheduler
    stopping.set()
    async with asyncio.timeout(5):
        await running


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
    with store.doorbell.listen(Topic.WORK) as bell:
        assert await store.doorbell.opened(timedelta(seconds=10))
        context = await back_off(store, contexts, timedelta(milliseconds=300))
        due = contexts.now() + timedelta(milliseconds=300)
        async with asyncio.timeout(10):
            while not (claimed := await claim(contexts, "generation")):
                await bell.wait(timedelta(seconds=5))
    assert [c.id for c in claimed] == [context.id]
    assert contexts.now() >= due - timedelta(milliseconds=20)
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
    promote = store.schedule.promote
    looked = asyncio.Event()

    async def counting(*arguments: Any, **options: Any) -> int:
        nonlocal looks
        looks += 1
        looked.set()
        return await promote(*arguments, **options)

    monkeypatch.setattr(store.schedule, "promote", counting)
    with store.doorbell.listen(Topic.SCHEDULE) as bell:
        await store.doorbell.opened(timedelta(seconds=10))
        await bell.wait(timedelta(seconds=1))
        running = asyncio.create_task(Scheduler(store).run(stopping))
        await looked.wait()
        # Longer than many a polling interval; the bell is not rung, because nothing is scheduled.
        assert not await bell.wait(timedelta(seconds=1))
        stopping.set()
        await running
    assert looks == 1
