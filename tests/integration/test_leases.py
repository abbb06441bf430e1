"""Leases: renewed by token, found when they have ended, taken back by the server's own time."""

from dataclasses import replace
from datetime import timedelta

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.transitions import lease_lost
from agent_service.store import Store
from agent_service.store.leases import LeaseState
from agent_service.store.paging import Place
from tests.support.claiming import claim_many
from tests.support.contexts import (
    NOW,
    SECOND,
    a_claim,
    a_context,
    a_lease,
    insert_claimed,
    many_contexts,
    the_context,
)
from tests.support.explained_commands import Document

#: The server's clock is the one of this machine, so this has passed and that has not.
PAST, FUTURE = NOW - timedelta(minutes=1), NOW + timedelta(hours=1)
BOTH_RUN_AT = NOW + 5 * SECOND


def token_of(context: Context) -> str:
    assert context.lease is not None
    return context.lease.token


async def claimed_together(store: Store, count: int, *, expires_at: object = PAST) -> list[Context]:
    """So many running contexts whose leases end at the same moment."""
    await store.contexts.insert(many_contexts(count))
    lease = replace(a_lease(), expires_at=expires_at)  # type: ignore[arg-type]  # a date, as given
    return await claim_many(store, a_claim(lease=lease), count)


async def test_a_renewal_moves_the_end_and_a_late_one_never_shortens_it(any_store: Store) -> None:
    [context] = await insert_claimed(any_store, [a_context()])
    tokens = {context.id: token_of(context)}
    later = NOW + timedelta(minutes=5)
    for end, expected in [(later, later), (NOW, later), (later + SECOND, later + SECOND)]:
        answer = await any_store.leases.renew(tokens, end, limit=10 * SECOND)
        assert answer == {context.id: LeaseState(token=token_of(context), cancel_requested=False)}
        lease = (await the_context(any_store, context)).lease
        assert lease is not None
        assert lease.expires_at == expected


@pytest.mark.conformance
async def test_a_renewal_says_which_leases_are_lost_and_who_shall_stop(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    mine, stopped, ended, taken, gone = await insert_claimed(
        any_store, [a_context(service=f"service{number}") for number in range(5)]
    )
    await raw["contexts"].update_one({"_id": stopped.id}, {"$set": {"cancel_requested": True}})
    await raw["contexts"].update_one({"_id": ended.id}, {"$set": {"status": "completed"}})
    await raw["contexts"].update_one({"_id": taken.id}, {"$set": {"lease.token": "another"}})
    await raw["contexts"].delete_one({"_id": gone.id})
    tokens = {context.id: token_of(context) for context in (mine, stopped, ended, taken, gone)}
    answer = await any_store.leases.renew(tokens, FUTURE, limit=10 * SECOND)
    assert answer == {
        mine.id: LeaseState(token=token_of(mine), cancel_requested=False),
        stopped.id: LeaseState(token=token_of(stopped), cancel_requested=True),
        ended.id: LeaseState(token=None, cancel_requested=False),
        taken.id: LeaseState(token="another", cancel_requested=False),
    }
    for lost in (ended, taken):
        lease = (await the_context(any_store, lost)).lease
        assert lease is not None
        assert lease.expires_at < FUTURE


async def test_ended_leases_are_paged_in_order_past_what_stays(any_store: Store) -> None:
    # Seven leases end at one moment, more than two pages; one ends before it and one after.
    together = await claimed_together(any_store, 7)
    [first] = await insert_claimed(any_store, [a_context()], expires_at=PAST - SECOND)
    [last] = await insert_claimed(any_store, [a_context()], expires_at=PAST + SECOND)
    await insert_claimed(any_store, [a_context()], expires_at=FUTURE)
    seen: list[str] = []
    after: Place | None = None
    while page := await any_store.leases.expired(NOW, after=after, limit=3):
        seen += [context.id for context in page]
        after = page.end
    assert seen == [first.id, *sorted(context.id for context in together), last.id]


async def test_a_lease_that_ends_now_has_not_ended(any_store: Store) -> None:
    await insert_claimed(any_store, [a_context()], expires_at=PAST)
    assert await any_store.leases.expired(PAST) == []
    assert len(await any_store.leases.expired(PAST + timedelta(milliseconds=1))) == 1


@pytest.mark.conformance
async def test_taking_back_costs_a_try_and_keeps_the_token_in_the_history(any_store: Store) -> None:
    [context] = await insert_claimed(any_store, [a_context()], expires_at=PAST)
    transition = lease_lost(at=NOW, run_at=BOTH_RUN_AT, tries=1, max_attempts=5)
    assert await any_store.leases.take_back(context, transition)
    now = await the_context(any_store, context)
    assert (now.status, now.run_at, now.lease) == (ContextStatus.SCHEDULED, BOTH_RUN_AT, None)
    assert (now.attempt, now.tries, now.leases_lost) == (1, 1, 1)
    [record] = now.history
    assert (record.token, record.outcome) == (token_of(context), AttemptOutcome.LEASE_LOST)
    assert not await any_store.leases.take_back(context, transition)
    assert await the_context(any_store, context) == now


async def test_the_last_try_that_is_lost_fails_the_context(any_store: Store) -> None:
    [context] = await insert_claimed(any_store, [a_context(max_attempts=1)], expires_at=PAST)
    transition = lease_lost(at=NOW, run_at=BOTH_RUN_AT, tries=1, max_attempts=1)
    assert await any_store.leases.take_back(context, transition)
    now = await the_context(any_store, context)
    assert (now.status, now.settled, now.finished_at) == (ContextStatus.FAILED, False, NOW)


async def test_a_rescuer_whose_clock_is_ahead_takes_nothing_back(any_store: Store) -> None:
    [context] = await insert_claimed(any_store, [a_context()], expires_at=FUTURE)
    ahead = FUTURE + SECOND
    [seen] = await any_store.leases.expired(ahead)
    for max_attempts in (5, 1):
        transition = lease_lost(at=ahead, run_at=ahead, tries=1, max_attempts=max_attempts)
        assert not await any_store.leases.take_back(seen, transition)
    assert await the_context(any_store, context) == context


async def test_a_lease_that_was_renewed_after_it_was_read_is_not_taken_back(any_store: Store) -> None:
    [context] = await insert_claimed(any_store, [a_context()], expires_at=PAST)
    [seen] = await any_store.leases.expired(NOW)
    await any_store.leases.renew({context.id: token_of(context)}, FUTURE, limit=10 * SECOND)
    transition = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5)
    assert not await any_store.leases.take_back(seen, transition)
    assert (await the_context(any_store, context)).status is ContextStatus.RUNNING


async def test_what_was_cancelled_is_taken_back_as_cancelled(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    [context] = await insert_claimed(any_store, [a_context()], expires_at=PAST)
    await raw["contexts"].update_one({"_id": context.id}, {"$set": {"cancel_requested": True}})
    transition = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5)
    assert await any_store.leases.take_back(context, transition)
    now = await the_context(any_store, context)
    assert (now.status, now.settled) == (ContextStatus.CANCELLED, False)
