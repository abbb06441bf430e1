"""Schedule: what is due becomes claimable, what was cancelled meanwhile does not."""

from dataclasses import replace
from datetime import timedelta

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.transitions import CANCELLATION
from agent_service.store import Store
from tests.support.contexts import NOW, SECOND, a_context, the_context


def scheduled(run_at: timedelta, *, cancelled: bool = False) -> Context:
    return a_context(status=ContextStatus.SCHEDULED, run_at=NOW + run_at, cancel_requested=cancelled)


async def test_the_next_time_is_that_of_the_first_scheduled_context(any_store: Store) -> None:
    assert await any_store.schedule.next_run_at() is None
    await any_store.contexts.insert([a_context(run_at=NOW - 9 * SECOND)])
    assert await any_store.schedule.next_run_at() is None
    await any_store.contexts.insert([scheduled(3 * SECOND), scheduled(2 * SECOND)])
    assert await any_store.schedule.next_run_at() == NOW + 2 * SECOND


async def test_what_is_due_becomes_claimable_and_what_is_not_stays(any_store: Store) -> None:
    due = [scheduled(-SECOND), scheduled(timedelta(0))]
    later = scheduled(timedelta(milliseconds=1))
    await any_store.contexts.insert([*due, later])
    assert await any_store.schedule.promote(NOW) == 2
    for context in due:
        assert await the_context(any_store, context) == replace(context, status=ContextStatus.PENDING)
    assert await the_context(any_store, later) == later
    assert await any_store.schedule.promote(NOW) == 0


async def test_of_what_is_due_the_oldest_goes_first_up_to_the_limit(any_store: Store) -> None:
    first, second, third = (scheduled(-seconds * SECOND) for seconds in (3, 2, 1))
    await any_store.contexts.insert([third, first, second])
    assert await any_store.schedule.promote(NOW, limit=2) == 2
    assert (await the_context(any_store, third)).status is ContextStatus.SCHEDULED
    assert await any_store.schedule.promote(NOW, limit=2) == 1


async def test_what_was_asked_to_be_cancelled_is_cancelled_when_it_is_due(any_store: Store) -> None:
    unwanted, wanted = scheduled(-SECOND, cancelled=True), scheduled(-SECOND)
    await any_store.contexts.insert([unwanted, wanted])
    assert await any_store.schedule.promote(NOW) == 2
    assert await the_context(any_store, unwanted) == replace(
        unwanted, status=ContextStatus.CANCELLED, error=CANCELLATION, finished_at=NOW, settled=False
    )
    assert (await the_context(any_store, wanted)).status is ContextStatus.PENDING
