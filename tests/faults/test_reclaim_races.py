"""A context that is taken back at the very moment at which its worker is heard of again: exactly one wins."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import timedelta
from typing import TypeVar

import pytest

from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.transitions import Transition, completed, lease_lost, released
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from tests.support.claiming import claim_many
from tests.support.contexts import NOW, SECOND, a_claim, a_lease, many_contexts

#: How many races are run of each kind, in `make test` and in `make test-all`; FAULT_PAIRS for more.
FEW, MANY = 200, int(os.environ.get("FAULT_PAIRS", "1000"))
each_number = pytest.mark.parametrize("pairs", [FEW, pytest.param(MANY, marks=pytest.mark.exhaustive)])
#: So many races at once.
_AT_ONCE = 25
ENDED = NOW - timedelta(minutes=1)
TAKEN = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5)
TAKEN_AT_LAST = lease_lost(at=NOW, run_at=NOW, tries=5, max_attempts=5)
DONE = completed(at=NOW, output={"text": "done"}, usage=None, chunks=0)

First = TypeVar("First")
Second = TypeVar("Second")


@pytest.fixture
async def rescuer(store: Store, mongodb_uri: str, database_name: str) -> AsyncIterator[Store]:
    """The store of another process."""
    async with Store.connect(mongodb_uri, database=database_name) as other:
        yield other


async def with_ended_leases(store: Store, count: int) -> list[Context]:
    """So many running contexts whose leases have ended; each has a token of its own."""
    await store.contexts.insert(many_contexts(count))
    claims = [a_claim(lease=a_lease(expires_at=ENDED)) for _ in range(count)]
    claimed = [context for claim in claims for context in await claim_many(store, claim, 1)]
    assert len(claimed) == count
    return claimed


async def at_once(number: int, one: Awaitable[First], other: Awaitable[Second]) -> tuple[First, Second]:
    """Both at the same time; who begins alternates."""
    start = asyncio.Barrier(2)
    if number % 2:
        first = asyncio.create_task(_behind(start, one))
        second = asyncio.create_task(_behind(start, other))
    else:
        second = asyncio.create_task(_behind(start, other))
        first = asyncio.create_task(_behind(start, one))
    return await first, await second


async def _behind(start: asyncio.Barrier, what: Awaitable[First]) -> First:
    await start.wait()
    return await what


async def race(races: Sequence[Awaitable[bool]]) -> int:
    """Run all races, some at a time; returns how many were won by the worker."""
    won = 0
    for begin in range(0, len(races), _AT_ONCE):
        won += sum(await asyncio.gather(*races[begin : begin + _AT_ONCE]))
    return won


@each_number
@pytest.mark.parametrize("taken", [TAKEN, TAKEN_AT_LAST], ids=["tried again", "last try"])
@pytest.mark.parametrize("end", [DONE, released(at=NOW)], ids=lambda end: str(end.outcome))
async def test_of_a_reclaim_and_an_end_exactly_one_wins(
    store: Store, rescuer: Store, taken: Transition, end: Transition, pairs: int
) -> None:
    async def once(number: int, context: Context) -> bool:
        taken_back, lost = await at_once(
            number,
            rescuer.leases.take_back(context, taken),
            store.outcomes.apply([Outcome(context=context, transition=end)]),
        )
        assert taken_back == (lost == {context.id}), "both won, or none"
        return not taken_back

    contexts = await with_ended_leases(store, pairs // 4)
    won = await race([once(number, context) for number, context in enumerate(contexts)])
    assert 0 < won < len(contexts), "this was no race"
    await assert_one_end_each(store, contexts, end, taken, won)


async def assert_one_end_each(
    store: Store, contexts: Sequence[Context], end: Transition, taken: Transition, won: int
) -> None:
    seen = 0
    for before in contexts:
        assert before.lease is not None
        (now,) = await store.contexts.of_request(before.request_id)
        (record,) = now.history
        assert record.token == before.lease.token
        assert (now.attempt, now.lease) == (1, None)
        by_worker = record.outcome is not AttemptOutcome.LEASE_LOST
        seen += by_worker
        transition = end if by_worker else taken
        assert (now.status, now.output) == (transition.status, transition.output)
        assert (now.tries, now.leases_lost) == (0 if transition.refund else 1, 0 if by_worker else 1)
    assert seen == won


@each_number
async def test_of_a_reclaim_and_a_renewal_exactly_one_wins(store: Store, rescuer: Store, pairs: int) -> None:
    async def once(number: int, context: Context) -> bool:
        assert context.lease is not None
        token = context.lease.token
        taken_back, states = await at_once(
            number,
            rescuer.leases.take_back(context, TAKEN),
            store.leases.renew({context.id: token}, NOW + timedelta(hours=1), limit=30 * SECOND),
        )
        kept = states[context.id].token == token
        assert taken_back != kept, "both won, or none"
        return kept

    contexts = await with_ended_leases(store, pairs // 2)
    kept = await race([once(number, context) for number, context in enumerate(contexts)])
    assert 0 < kept < len(contexts), "this was no race"
    for before in contexts:
        (now,) = await store.contexts.of_request(before.request_id)
        if now.status is ContextStatus.RUNNING:
            assert (now.lease or a_lease()).expires_at > NOW
        else:
            assert (now.status, now.lease) == (ContextStatus.SCHEDULED, None)


@each_number
async def test_a_lease_that_was_renewed_in_time_is_never_taken_back(
    store: Store, rescuer: Store, pairs: int
) -> None:
    contexts = await with_ended_leases(store, pairs // 10)
    seen = await rescuer.leases.expired(NOW, limit=len(contexts))
    assert {context.id for context in seen} == {context.id for context in contexts}
    tokens = {context.id: context.lease.token for context in contexts if context.lease}
    await store.leases.renew(tokens, NOW + timedelta(hours=1), limit=30 * SECOND)
    for context in seen:
        for taken in (TAKEN, TAKEN_AT_LAST):
            assert not await rescuer.leases.take_back(context, taken)
    states = await store.leases.renew(tokens, NOW + timedelta(hours=1), limit=30 * SECOND)
    assert {context_id: state.token for context_id, state in states.items()} == tokens


@pytest.mark.parametrize("taken", [TAKEN, TAKEN_AT_LAST], ids=["tried again", "last try"])
async def test_what_was_claimed_again_is_not_taken_back_in_the_name_of_the_attempt_before(
    store: Store, rescuer: Store, taken: Transition
) -> None:
    (context,) = await with_ended_leases(store, 1)
    (seen,) = await rescuer.leases.expired(NOW)
    assert await store.leases.take_back(context, TAKEN)
    assert await store.schedule.promote(NOW) == 1
    # The lease of the next attempt has ended as well, so nothing but the token tells the two apart.
    (again,) = await claim_many(store, a_claim(lease=a_lease(expires_at=ENDED)), 1)
    assert (again.id, again.attempt) == (seen.id, 2)
    assert not await rescuer.leases.take_back(seen, taken)
    assert await store.contexts.of_request(again.request_id) == [again]
