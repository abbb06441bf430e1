"""A write that was applied and whose answer was lost: not taken for undone, and not done twice."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.events import Chunk
from agent_service.domain.request import RequestStatus
from agent_service.domain.stop import STOPS
from agent_service.domain.transitions import Transition, completed, lease_lost, released, retry_at
from agent_service.settler import WrittenEnd
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from agent_service.workers.claimer import Claimer
from agent_service.workers.held_lease import HeldLease
from agent_service.workers.lease_keeper import KeptLease, LeaseKeeper
from agent_service.workers.outcome_writer import OutcomeWriter
from tests.support.claiming import claim_many
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_claim, a_context, a_lease, a_request, the_context
from tests.support.contexts import insert_claimed as insert
from tests.support.fail_points import FailPoint, fragile_store
from tests.support.worker_tools import Raw, step, submit

LEASE = timedelta(seconds=30)
UNCONFIRMED: dict[str, Any] = {"writeConcernError": {"code": 64, "errmsg": "replication timed out"}}


def claimer_of(store: Store) -> Claimer:
    return Claimer(
        ContextManager(store), service="generation", queues=("default",), worker_id="w", lease=LEASE
    )


@pytest.mark.parametrize("limit", [1, 5])
async def test_an_ambiguous_claim_is_handed_back_refunded_before_anything_else_is_claimed(
    mongodb_uri: str, database_name: str, raw: Raw, limit: int
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        request_id = await submit(store, *(step(f"step_{number}") for number in range(limit)))
        claimer = claimer_of(store)
        await point.fail("findAndModify", "update", times=1, **UNCONFIRMED)
        with pytest.raises(WriteOutcomeUnknown):
            await claimer.claim(limit)
        # What is not confirmed yet is no part of what a majority has.
        running = await raw.contexts.find().to_list()
        assert {(c["status"], c["attempt"], c["tries"]) for c in running} == {("running", 1, 1)}
        await claimer.hand_back_unknown()
        pending = await store.contexts.of_request(request_id)
        assert {(c.status, c.attempt, c.tries) for c in pending} == {(ContextStatus.PENDING, 1, 0)}
        assert {tuple(r.outcome for r in c.history) for c in pending} == {(AttemptOutcome.RELEASED,)}


async def test_a_hand_back_whose_own_answer_is_lost_is_repeated_and_refunds_once(
    mongodb_uri: str, database_name: str
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        request_id = await submit(store)
        claimer = claimer_of(store)
        await point.fail("findAndModify", times=1, **UNCONFIRMED)
        with pytest.raises(WriteOutcomeUnknown):
            await claimer.claim(1)
        await point.fail("update", times=1, **UNCONFIRMED)
        with pytest.raises(WriteOutcomeUnknown):
            await claimer.claim(1)
        claimed = (await claimer.claim(1)).contexts
        assert [(c.request_id, c.attempt, c.tries) for c in claimed] == [(request_id, 2, 1)]


class AnswerLost(ContextManager):
    """The first write of ends is applied, then `meanwhile` happens, and then its answer is lost."""

    def __init__(self, store: Store, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(store)
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile
        #: The ids that were settled, one list for each time.
        self.settled: list[str] = []

    async def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        lost = await super().finish(outcomes)
        if self._meanwhile is not None:
            await self._meanwhile()
            self._meanwhile = None
            raise WriteOutcomeUnknown("the connection was closed")
        return lost

    async def settle_ends(self, ends: Sequence[WrittenEnd]) -> None:
        # Of an end that was not written at the first try nobody knows here how it ended.
        assert {end.status for end in ends} == {None}
        self.settled += [end.context_id for end in ends]
        await super().settle_ends(ends)


async def write(contexts: ContextManager, context: Context, transition: Transition) -> bool:
    """Write one end as a worker does, and settle it."""
    writer = OutcomeWriter(contexts)
    task = asyncio.gather(writer.run(), writer.settle())
    try:
        async with asyncio.timeout(20):
            return await writer.write(Outcome(context=context, transition=transition))
    finally:
        writer.stop()
        await task


def done(at: Any = NOW) -> Transition:
    return completed(at=at, output="mine", usage=None, chunks=0)


async def test_a_completion_whose_answer_was_lost_is_verified_and_settled_once(store: Store) -> None:
    async def take_back() -> None:
        taken = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=3)
        assert not await store.leases.take_back(context, taken)

    request_id = await submit(store)
    (context,) = (await claimer_of(store).claim(1)).contexts
    contexts = AnswerLost(store, take_back)
    assert await write(contexts, context, done(store.clock.now()))
    now = await the_context(store, context)
    assert (now.status, now.output, now.settled, len(now.history)) == ("completed", "mine", True, 1)
    request = await store.requests.get(request_id)
    assert request is not None
    assert request.status is RequestStatus.COMPLETED
    assert contexts.settled == [context.id]


@pytest.mark.parametrize("claimed_again", [False, True], ids=["promoted", "claimed again"])
async def test_a_retry_whose_answer_was_lost_is_recognised_although_the_context_went_on(
    store: Store, claimed_again: bool
) -> None:
    async def go_on() -> None:
        assert await store.schedule.promote(store.clock.now()) == 1
        if claimed_again:
            assert (await claimer_of(store).claim(1)).contexts

    await submit(store)
    (context,) = (await claimer_of(store).claim(1)).contexts
    at = store.clock.now()
    transition = retry_at(at=at, run_at=at - SECOND, error=AN_ERROR, chunks=0)
    assert await write(AnswerLost(store, go_on), context, transition)
    now = await the_context(store, context)
    expected = (ContextStatus.RUNNING, 2) if claimed_again else (ContextStatus.PENDING, 1)
    assert (now.status, now.attempt, len(now.history)) == (*expected, 1)


@pytest.mark.parametrize("taken", ["taken back", "claimed again"])
async def test_a_completion_that_was_not_applied_is_lost_where_the_rescuer_was_first(
    store: Store, raw: Raw, taken: str
) -> None:
    (context,) = await insert(store, [a_context()], expires_at=NOW - 60 * SECOND)
    assert await store.leases.take_back(context, lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5))
    if taken == "claimed again":
        await store.schedule.promote(store.clock.now())
        assert (await claimer_of(store).claim(1)).contexts
    before = await raw.contexts.find_one({"_id": context.id})
    assert not await write(ContextManager(store), context, done())
    assert await raw.contexts.find_one({"_id": context.id}) == before


@pytest.mark.parametrize("flag", [stop.flag for stop in STOPS])
@pytest.mark.parametrize("late", [released(at=NOW), done()], ids=lambda late: str(late.outcome))
async def test_a_late_attempt_does_not_end_the_next_one_that_shall_stop(
    store: Store, raw: Raw, late: Transition, flag: str
) -> None:
    (first,) = await insert(store, [a_context()], expires_at=NOW - 60 * SECOND)
    assert await store.leases.take_back(first, lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5))
    await store.schedule.promote(store.clock.now())
    assert (await claimer_of(store).claim(1)).contexts
    await raw.contexts.update_one({"_id": first.id}, {"$set": {flag: True}})
    before = await raw.contexts.find_one({"_id": first.id})
    assert not await write(ContextManager(store), first, late)
    assert await raw.contexts.find_one({"_id": first.id}) == before


async def test_a_renewal_whose_answer_was_lost_keeps_the_lease_and_stops_nobody(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        await submit(store)
        (context,) = (await claimer_of(store).claim(1)).contexts
        assert context.lease is not None
        keeper = LeaseKeeper(ContextManager(store), lease=timedelta(minutes=5))
        stopped: list[object] = []
        held = HeldLease(
            context.id,
            context.lease.token,
            ends=time.monotonic() + LEASE.total_seconds(),
            on_lost=lambda: stopped.append("lost"),
        )
        keeper.keep(KeptLease(lease=held, on_stop=stopped.append))
        ends = held.ends
        await point.fail("update", times=1, **UNCONFIRMED)
        with pytest.raises(WriteOutcomeUnknown):
            await keeper.renew()
        # Applied, and not believed: the lease is counted on for no longer than before.
        moved = await raw.contexts.find_one({"_id": context.id})
        assert moved is not None
        assert moved["lease"]["expires_at"] > context.lease.expires_at
        assert held.ends == ends
        await keeper.renew()
        assert held.ends > ends
        assert stopped == []
        keeper.drop(held)


async def set_up(store: Store) -> tuple[Context, str]:
    """A context that runs, and the id of a request that is not planned."""
    await store.contexts.insert([a_context(status=ContextStatus.SCHEDULED, run_at=NOW - SECOND)])
    (running,) = await insert(store, [a_context(service="analysis")], expires_at=NOW - SECOND)
    request = a_request()
    assert await store.requests.insert(request)
    return running, request.id


Write = Callable[[Store, Context, str], Awaitable[Any]]


async def plan(store: Store, running: Context, request_id: str) -> None:
    request = await store.requests.get(request_id)
    assert request is not None
    await ContextManager(store).plan(request, until=plan_by())


def end(store: Store, running: Context, request_id: str) -> Awaitable[Any]:
    return store.outcomes.apply([Outcome(context=running, transition=released(at=NOW))])


def renew(store: Store, running: Context, request_id: str) -> Awaitable[Any]:
    assert running.lease is not None
    return store.leases.renew({running.id: running.lease.token}, NOW + LEASE, limit=10 * SECOND)


def take_back(store: Store, running: Context, request_id: str) -> Awaitable[Any]:
    taken = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=3)
    return store.leases.take_back(running, taken)


AMBIGUOUS: dict[str, tuple[Write, Any]] = {
    "claim": (lambda store, *_: claim_many(store, a_claim(lease=a_lease()), 5), None),
    "renewal": (renew, None),
    "end": (end, frozenset()),
    "reclaim": (take_back, False),
    "settling": (lambda store, running, _: store.settlement.mark_settled([running.id]), None),
    "planning": (plan, None),
    "promotion": (lambda store, *_: store.schedule.promote(NOW), 0),
}


@pytest.mark.parametrize("what", AMBIGUOUS)
async def test_what_the_majority_did_not_confirm_in_time_is_unknown_and_can_be_repeated(
    mongodb_uri: str, database_name: str, what: str
) -> None:
    operation, again = AMBIGUOUS[what]
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        running, request_id = await set_up(store)
        if what == "claim":
            await store.contexts.insert([replace(a_context(), rank=rank) for rank in range(3)])
        await unknown(point, operation(store, running, request_id))
        repeated = await operation(store, running, request_id)
        if again is not None:
            assert repeated == again
        if what == "planning":
            await store.planned_marks.flush()
            assert not (await store.requests.unplanned([request_id]))[0]


async def test_what_is_there_already_and_not_confirmed_is_unknown_too(
    mongodb_uri: str, database_name: str
) -> None:
    chunk = Chunk(context_id="r.draft", attempt=1, seq=1, delta="text", at=NOW)
    context = a_context()
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        inserts: list[Callable[[], Awaitable[object]]] = [
            lambda: store.contexts.insert([context]),
            lambda: store.chunks.append(chunk),
        ]
        for insert_again in inserts:
            await insert_again()
            await unknown(point, insert_again())
            await insert_again()


async def unknown(point: FailPoint, operation: Awaitable[Any]) -> None:
    """The operation is applied, and comes out as unknown."""
    await point.fail("update", "insert", "findAndModify", **UNCONFIRMED)
    with pytest.raises(WriteOutcomeUnknown):
        await operation
    await point.off()
