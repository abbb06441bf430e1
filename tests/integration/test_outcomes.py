"""Outcomes: the end of an attempt is written once, by whoever holds the lease, with both drivers."""

from datetime import datetime, timedelta

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.transitions import (
    CANCELLATION,
    Transition,
    cancelled,
    completed,
    failed,
    lease_lost,
    record_of,
    released,
    retry_at,
)
from agent_service.store import Store
from agent_service.store.outcomes import HISTORY_LIMIT, Outcome
from tests.support.claiming import claim_one
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_claim, a_context, insert_claimed, the_context
from tests.support.explained_commands import Document
from tests.support.fail_points import fragile_store

PAST = NOW - timedelta(minutes=1)
AT, RUN_AT = NOW + SECOND, NOW + 60 * SECOND
COMPLETED = completed(at=AT, output={"text": "done"}, usage={"tokens": 3}, chunks=2)
RETRY = retry_at(at=AT, run_at=RUN_AT, error=AN_ERROR, chunks=1)
FAILED = failed(at=AT, error=AN_ERROR, chunks=0)
RELEASED = released(at=AT)
CANCELLED = cancelled(at=AT)
EVERY = [COMPLETED, RETRY, FAILED, RELEASED, CANCELLED]
each_transition = pytest.mark.parametrize("transition", EVERY, ids=lambda move: str(move.outcome))


async def apply(store: Store, *outcomes: tuple[Context, Transition]) -> frozenset[str]:
    return await store.outcomes.apply(
        [Outcome(context=context, transition=move) for context, move in outcomes]
    )


@pytest.mark.conformance
@each_transition
async def test_an_outcome_writes_what_its_transition_says(any_store: Store, transition: Transition) -> None:
    [context] = await insert_claimed(any_store, [a_context()])
    assert await apply(any_store, (context, transition)) == frozenset()
    now = await the_context(any_store, context)
    assert (now.status, now.lease, now.attempt) == (transition.status, None, 1)
    assert (now.output, now.usage, now.error) == (transition.output, transition.usage, transition.error)
    assert now.tries == (0 if transition.refund else 1)
    assert now.run_at == (transition.run_at or context.run_at)
    assert now.history == (record_of(context, transition),)
    if transition.terminal:
        assert (now.finished_at, now.settled) == (AT, False)
    else:
        assert (now.finished_at, now.settled) == (None, None)


@each_transition
async def test_an_outcome_whose_lease_went_to_another_worker_changes_nothing(
    any_store: Store, transition: Transition
) -> None:
    [mine] = await insert_claimed(any_store, [a_context()], expires_at=PAST)
    taken = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5)
    assert await any_store.leases.take_back(mine, taken)
    scheduled = await the_context(any_store, mine)
    assert await apply(any_store, (mine, transition)) == {mine.id}
    assert await the_context(any_store, mine) == scheduled

    await any_store.schedule.promote(NOW)
    other = await claim_one(any_store, a_claim())
    assert await apply(any_store, (mine, transition)) == {mine.id}
    assert await the_context(any_store, mine) == other


@each_transition
async def test_the_same_outcome_again_is_recognised_and_changes_nothing(
    any_store: Store, transition: Transition
) -> None:
    [context] = await insert_claimed(any_store, [a_context()])
    await apply(any_store, (context, transition))
    once = await the_context(any_store, context)
    assert await apply(any_store, (context, transition)) == frozenset()
    assert await the_context(any_store, context) == once


async def test_an_outcome_is_recognised_while_the_next_attempt_runs(any_store: Store) -> None:
    [context] = await insert_claimed(any_store, [a_context()])
    await apply(any_store, (context, RELEASED))
    second = await claim_one(any_store, a_claim())
    assert await apply(any_store, (context, RELEASED)) == frozenset()
    assert await the_context(any_store, context) == second


async def test_of_many_outcomes_exactly_those_are_named_that_were_not_applied(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    contexts = await insert_claimed(any_store, [a_context(service=f"service{number}") for number in range(6)])
    applied, before, taken, gone, retried, ended = contexts
    await apply(any_store, (before, COMPLETED))
    await raw["contexts"].update_one({"_id": taken.id}, {"$set": {"lease.token": "another"}})
    await raw["contexts"].delete_one({"_id": gone.id})
    await raw["contexts"].update_one({"_id": ended.id}, {"$set": {"status": "cancelled", "lease": None}})
    lost = await apply(
        any_store,
        (taken, COMPLETED),
        (applied, COMPLETED),
        (before, COMPLETED),
        (gone, FAILED),
        (retried, RETRY),
        (ended, COMPLETED),
    )
    assert lost == {taken.id, gone.id, ended.id}
    statuses = {context.id: (await the_context(any_store, context)).status for context in (applied, retried)}
    assert statuses == {applied.id: ContextStatus.COMPLETED, retried.id: ContextStatus.SCHEDULED}


@pytest.mark.parametrize("transition", [RETRY, RELEASED], ids=lambda move: str(move.outcome))
async def test_what_would_run_again_is_cancelled_where_that_was_asked_for(
    any_store: Store, raw: AsyncDatabase[Document], transition: Transition
) -> None:
    [context] = await insert_claimed(any_store, [a_context()])
    await raw["contexts"].update_one({"_id": context.id}, {"$set": {"cancel_requested": True}})
    for _ in range(2):
        assert await apply(any_store, (context, transition)) == frozenset()
        now = await the_context(any_store, context)
        assert (now.status, now.error) == (ContextStatus.CANCELLED, CANCELLATION)
        assert (now.finished_at, now.settled, now.run_at) == (AT, False, context.run_at)
        assert [record.outcome for record in now.history] == [AttemptOutcome.CANCELLED]


async def test_a_completion_that_comes_with_its_cancellation_stays_completed(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    [context] = await insert_claimed(any_store, [a_context()])
    await raw["contexts"].update_one({"_id": context.id}, {"$set": {"cancel_requested": True}})
    await apply(any_store, (context, COMPLETED))
    assert (await the_context(any_store, context)).status is ContextStatus.COMPLETED


async def test_the_history_keeps_the_latest_attempts_only(any_store: Store) -> None:
    context = a_context()
    await any_store.contexts.insert([context])
    for _ in range(HISTORY_LIMIT + 3):
        claimed = await claim_one(any_store, a_claim())
        assert claimed is not None
        await apply(any_store, (claimed, RELEASED))
    now = await the_context(any_store, context)
    assert [record.attempt for record in now.history] == list(range(4, HISTORY_LIMIT + 4))
    assert (now.attempt, now.tries) == (HISTORY_LIMIT + 3, 0)


async def test_an_outcome_whose_answer_is_lost_can_be_sent_again(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    [context] = await insert_claimed(store, [a_context()])
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        await point.fail("update", writeConcernError={"code": 64, "errmsg": "waiting timed out"})
        with pytest.raises(WriteOutcomeUnknown):
            await apply(fragile, (context, COMPLETED))
        await point.off()
        assert await apply(fragile, (context, COMPLETED)) == frozenset()
        now = await the_context(fragile, context)
    assert (now.output, len(now.history)) == (COMPLETED.output, 1)


@pytest.mark.conformance
async def test_an_output_that_is_too_large_with_its_input_is_unstorable(any_store: Store) -> None:
    large = "x" * 9_000_000
    [context] = await insert_claimed(any_store, [a_context(input=large)])
    with pytest.raises(UnstorableValue):
        await apply(any_store, (context, completed(at=AT, output=large, usage=None, chunks=0)))
    assert (await the_context(any_store, context)).status is ContextStatus.RUNNING


@pytest.mark.parametrize("flag", ["cancel_requested", "deadline_passed"])
@pytest.mark.parametrize(
    ("transition", "stopped_at"),
    [(COMPLETED, AT), (FAILED, NOW), (RETRY, NOW)],
    ids=["done", "failed", "retry"],
)
async def test_a_late_outcome_is_refused_although_the_rescuer_ended_the_same_attempt(
    any_store: Store, raw: AsyncDatabase[Document], flag: str, transition: Transition, stopped_at: datetime
) -> None:
    [late] = await insert_claimed(any_store, [a_context()], expires_at=PAST)
    await raw["contexts"].update_one({"_id": late.id}, {"$set": {flag: True}})
    taken = lease_lost(at=stopped_at, run_at=NOW, tries=1, max_attempts=5)
    assert await any_store.leases.take_back(late, taken)
    stopped = await the_context(any_store, late)
    assert stopped.status.ended
    assert await apply(any_store, (late, transition)) == {late.id}
    assert await the_context(any_store, late) == stopped
