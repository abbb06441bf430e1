"""Settlement: every write of it can be repeated, with both drivers."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import Context, ContextError, ContextStatus
from agent_service.domain.events import Chunk
from agent_service.domain.line import Line, rank_at
from agent_service.domain.request import RequestStatus
from agent_service.domain.settling import Consequences, RequestPlan
from agent_service.domain.transitions import CANCELLATION
from agent_service.store import Store
from agent_service.store.settlement import OUTLIVES
from agent_service.store.settlement_view import EndedContext
from tests.support.contexts import (
    AN_ERROR,
    NOW,
    SECOND,
    a_context,
    a_request,
    a_step,
    ended_context,
    insert_claimed,
    the_context,
)
from tests.support.explained_commands import Document
from tests.support.settling import end

#: Not a date of the past, or the server would remove what this test looks at.
EXPIRES_AT = NOW + timedelta(days=7)
NOT_BLOCKED = [status for status in ContextStatus if status is not ContextStatus.BLOCKED]


def blocked(step: str, *waiting_on: str, request_id: str = "r", **changes: object) -> Context:
    usual: dict[str, object] = {"status": ContextStatus.BLOCKED, "released_at": None, **changes}
    return a_context(step, request_id=request_id, waiting_on=waiting_on, **usual)


def releases(*pairs: tuple[str, str]) -> dict[str, Consequences]:
    return {"r": Consequences(releases=pairs, cancellations={})}


def cancelled_at(context: Context, at: datetime, error: ContextError = CANCELLATION) -> Context:
    """How a context looks that was cancelled before it ran."""
    return replace(context, status=ContextStatus.CANCELLED, error=error, finished_at=at, settled=False)


async def test_a_dependent_is_released_by_the_last_step_that_it_waits_for(any_store: Store) -> None:
    joins = blocked("joins", "one", "two")
    await any_store.contexts.insert([joins])
    for _ in range(2):
        await any_store.settlement.write_consequences(releases(("one", "joins")), freed={}, at=NOW)
        assert await the_context(any_store, joins) == replace(joins, waiting_on=("two",))
    at = NOW + SECOND
    await any_store.settlement.write_consequences(releases(("two", "joins")), freed={}, at=at)
    free = replace(joins, waiting_on=(), status=ContextStatus.PENDING, run_at=at, released_at=at)
    assert await the_context(any_store, joins) == free
    await any_store.settlement.write_consequences(releases(("two", "joins")), freed={}, at=at + SECOND)
    assert await the_context(any_store, joins) == free


@pytest.mark.conformance
async def test_one_write_releases_and_cancels_in_several_requests(any_store: Store) -> None:
    free, never = blocked("free", "one", "two"), blocked("never", "three")
    other = blocked("free", "one", request_id="other")
    await any_store.contexts.insert([free, never, other])
    follows = {
        "r": Consequences(
            releases=(("one", "free"), ("two", "free")), cancellations={"never": AN_ERROR, "gone": AN_ERROR}
        ),
        "other": Consequences(releases=(("one", "free"),), cancellations={}),
    }
    for _ in range(2):
        await any_store.settlement.write_consequences(follows, freed={}, at=NOW)
        assert (await the_context(any_store, free)).status is ContextStatus.PENDING
        assert (await the_context(any_store, other)).status is ContextStatus.PENDING
        assert await the_context(any_store, never) == cancelled_at(never, NOW, AN_ERROR)


async def test_a_released_dependent_that_shall_not_run_any_more_is_cancelled(any_store: Store) -> None:
    unwanted = blocked("unwanted", "one", cancel_requested=True)
    await any_store.contexts.insert([unwanted])
    await any_store.settlement.write_consequences(releases(("one", "unwanted")), freed={}, at=NOW)
    assert await the_context(any_store, unwanted) == cancelled_at(replace(unwanted, waiting_on=()), NOW)


@pytest.mark.parametrize("status", NOT_BLOCKED)
async def test_what_is_not_blocked_any_more_is_neither_released_nor_cancelled(
    any_store: Store, status: ContextStatus
) -> None:
    context = a_context("gone_on", request_id="r", status=status)
    await any_store.contexts.insert([context])
    follows = Consequences(releases=(("one", "gone_on"),), cancellations={"gone_on": AN_ERROR})
    await any_store.settlement.write_consequences({"r": follows}, freed={}, at=NOW + SECOND)
    assert await the_context(any_store, context) == context


async def test_no_consequences_are_no_write(any_store: Store) -> None:
    await any_store.settlement.write_consequences({}, freed={}, at=NOW)
    await any_store.settlement.write_statuses({}, at=NOW, expires_at=EXPIRES_AT)


async def test_a_request_that_goes_on_says_so_and_expires_never(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    request = a_request()
    await any_store.requests.insert(request)
    await any_store.contexts.insert([ended_context(request_id=request.id)])
    statuses = {request.id: RequestStatus.RUNNING}
    await any_store.settlement.write_statuses(statuses, at=NOW, expires_at=EXPIRES_AT)
    assert await any_store.requests.get(request.id) == replace(request, status=RequestStatus.RUNNING)
    assert await raw["contexts"].count_documents({"expires_at": None}) == 1


@pytest.mark.conformance
async def test_the_end_of_a_request_is_written_once_and_then_it_expires_with_all_it_has(
    any_store: Store,
) -> None:
    request, other = a_request(), a_request()
    contexts = [ended_context(request_id=request.id), a_context(request_id=other.id)]
    for inserted in (request, other):
        await any_store.requests.insert(inserted)
    await any_store.contexts.insert(contexts)
    chunks = [Chunk(context_id=context.id, attempt=1, seq=1, delta="text", at=NOW) for context in contexts]
    for chunk in chunks:
        await any_store.chunks.append(chunk)

    ends = [(RequestStatus.FAILED, timedelta(0)), (RequestStatus.COMPLETED, SECOND)]
    for status, later in ends:
        await end(any_store, {request.id: status}, at=NOW + later, expires_at=EXPIRES_AT + later)
        assert await any_store.requests.get(request.id) == replace(
            request, status=RequestStatus.FAILED, finished_at=NOW, expires_at=EXPIRES_AT
        )
        mine = await the_context(any_store, contexts[0])
        assert mine.expires_at == EXPIRES_AT + OUTLIVES
    assert (await the_context(any_store, contexts[1])).expires_at is None


async def test_chunks_expire_with_their_request_and_only_with_theirs(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    await any_store.requests.insert(a_request(id="r-1"))
    for request_id in ("r-1", "r-10"):
        for seq in (1, 2):
            await any_store.chunks.append(
                Chunk(context_id=f"{request_id}.draft", attempt=1, seq=seq, delta="text", at=NOW)
            )
    ended = {"r-1": RequestStatus.COMPLETED}
    await end(any_store, ended, at=NOW, expires_at=EXPIRES_AT)
    expiring = raw["events"].find({"expires_at": EXPIRES_AT + OUTLIVES})
    assert {document["context_id"] async for document in expiring} == {"r-1.draft"}
    assert await raw["events"].count_documents({"expires_at": None}) == 2


async def test_the_repair_of_an_expiry_that_was_not_written_leaves_the_request_as_it_is(
    any_store: Store,
) -> None:
    ended = a_request(status=RequestStatus.COMPLETED, finished_at=NOW, expires_at=EXPIRES_AT)
    context = ended_context(request_id=ended.id)
    await any_store.requests.insert(ended)
    await any_store.contexts.insert([context])
    await end(any_store, {ended.id: RequestStatus.COMPLETED}, at=NOW + SECOND, expires_at=EXPIRES_AT)
    assert await any_store.requests.get(ended.id) == ended
    assert (await the_context(any_store, context)).expires_at == EXPIRES_AT + OUTLIVES


async def test_contexts_outlive_their_request_although_another_settler_looked_at_the_clock_before(
    any_store: Store,
) -> None:
    request = a_request()
    context = ended_context(request_id=request.id)
    await any_store.contexts.insert([context])
    # The write to the request is the one that did not arrive.
    await end(any_store, {request.id: RequestStatus.COMPLETED}, at=NOW, expires_at=EXPIRES_AT)
    await any_store.requests.insert(request)
    await end(
        any_store,
        {request.id: RequestStatus.COMPLETED},
        at=NOW + 60 * SECOND,
        expires_at=EXPIRES_AT + 60 * SECOND,
    )
    found = await any_store.requests.get(request.id)
    assert found is not None
    assert found.expires_at == EXPIRES_AT + 60 * SECOND
    expires_at = (await the_context(any_store, context)).expires_at
    assert expires_at is not None
    assert expires_at >= found.expires_at + timedelta(hours=1)


async def test_only_what_has_ended_is_marked_as_settled(any_store: Store) -> None:
    ended, other_end, waiting = ended_context(), ended_context(), a_context()
    await any_store.contexts.insert([ended, other_end, waiting])
    for _ in range(2):
        await any_store.settlement.mark_settled([ended.id, waiting.id, "gone"])
        assert await the_context(any_store, ended) == replace(ended, settled=True)
        assert await the_context(any_store, waiting) == waiting
        assert await the_context(any_store, other_end) == other_end


async def test_unsettled_ends_are_paged_in_order(any_store: Store) -> None:
    ends = [ended_context(request_id=name, finished_at=NOW - SECOND) for name in ("c", "a", "b", "d")]
    first = ended_context(finished_at=NOW - 2 * SECOND)
    others = [ended_context(settled=True, finished_at=NOW - SECOND), ended_context(finished_at=NOW)]
    await any_store.contexts.insert([*ends, first, *others])
    page = await any_store.settlement.unsettled(NOW, limit=3)
    assert [context_id for _, context_id in page] == [first.id, "a.draft", "b.draft"]
    rest = await any_store.settlement.unsettled(NOW, after=page[-1], limit=3)
    assert rest == [(NOW - SECOND, "c.draft"), (NOW - SECOND, "d.draft")]


async def test_the_view_shows_ends_plans_and_the_statuses_of_all_steps(any_store: Store) -> None:
    steps = (a_step("one"), a_step("two", "one"))
    request = a_request(*steps, id="r")
    one = ended_context("one", request_id="r", status=ContextStatus.FAILED)
    settled = ended_context("two", request_id="s", settled=True)
    await any_store.requests.insert(request)
    await any_store.contexts.insert([one, settled])
    [running] = await insert_claimed(any_store, [a_context()])
    async with any_store.settlement.view() as view:
        assert await view.ended([one.id, settled.id, running.id, "gone.one"]) == [
            EndedContext(id=one.id, request_id="r", step="one", status=ContextStatus.FAILED, finished_at=NOW)
        ]
        plans, _ = await view.plans(["r", "gone"])
        bare = tuple(replace(step, input=None) for step in steps)
        lines = {step.name: Line(step.service, step.queue, 0, "default") for step in steps}
        assert plans == [
            RequestPlan(id="r", steps=bare, status=RequestStatus.ACCEPTED, lines=lines, rank=rank_at(NOW))
        ]
        # The context of step two was not inserted yet.
        assert await view.statuses(plans) == {"r": {"one": ContextStatus.FAILED}}


async def test_the_view_reads_what_was_acknowledged_before_it(any_store: Store, store: Store) -> None:
    for number in range(20):
        context = ended_context(request_id=f"r{number}")
        await store.contexts.insert([context])
        async with any_store.settlement.view() as view:
            assert [ended.id for ended in await view.ended([context.id])] == [context.id]


async def test_what_is_all_of_its_request_is_settled_and_expires_in_one_write(any_store: Store) -> None:
    sole, other, waiting = ended_context(sole=True), ended_context(sole=True), a_context()
    await any_store.contexts.insert([sole, other, waiting])
    chunk = Chunk(context_id=sole.id, attempt=1, seq=1, delta="text", at=NOW)
    await any_store.chunks.append(chunk)
    expires_at = EXPIRES_AT + OUTLIVES
    for later in (timedelta(0), SECOND):
        await any_store.settlement.settle_sole(
            [sole.id, waiting.id, "gone"],
            streamed=[sole.request_id],
            requests_expire_at=EXPIRES_AT + later,
        )
        assert await the_context(any_store, sole) == replace(sole, settled=True, expires_at=expires_at)
        assert await the_context(any_store, waiting) == waiting
        assert await the_context(any_store, other) == other
        assert await any_store.leftovers.find("events", "s") == []
