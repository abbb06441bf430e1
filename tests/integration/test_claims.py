"""Claims: a pending context becomes the work of exactly one worker, with both drivers."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ServerSelectionTimeoutError

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.line import Candidate
from agent_service.domain.stop import CANCELLED
from agent_service.domain.transitions import released
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.outcomes import Outcome
from tests.support.claiming import claim_many, claim_one, meanwhile
from tests.support.contexts import NOW, SECOND, a_claim, a_context, a_lease, many_contexts, the_context
from tests.support.fail_points import fragile_store


async def claim(store: Store, claim: Claim, limit: int) -> list[Context]:
    """Claim in one of the two ways."""
    if limit > 1:
        return await claim_many(store, claim, limit)
    context = await claim_one(store, claim)
    return [] if context is None else [context]


@pytest.mark.conformance
@pytest.mark.parametrize("limit", [1, 5])
async def test_twenty_claimers_of_two_stores_never_claim_the_same_context(
    any_store: Store, store: Store, limit: int
) -> None:
    contexts = many_contexts(150)
    await store.contexts.insert(contexts)

    async def claim_until_nothing_is_left(claimer: Store) -> list[str]:
        mine: list[str] = []
        while found := await claim(claimer, a_claim(), limit):
            mine += [context.id for context in found]
        return mine

    taken = await asyncio.gather(
        *(claim_until_nothing_is_left(claimer) for claimer in (any_store, store) for _ in range(10))
    )
    # Competitors may leave something to one another at the very end, never take it twice.
    taken.append(await claim_until_nothing_is_left(store))
    assert Counter(context_id for mine in taken for context_id in mine) == Counter(
        context.id for context in contexts
    )
    tokens = [(await the_context(store, context)).lease for context in contexts[:10]]
    assert None not in tokens


@pytest.mark.parametrize("limit", [1, 100])
async def test_contexts_are_claimed_by_priority_then_rank_then_id(any_store: Store, limit: int) -> None:
    expected = [
        a_context(request_id=name, priority=priority, rank=rank)
        for name, priority, rank in [
            ("z", -1, 9), ("b", 0, 1), ("a", 0, 2), ("c", 0, 2), ("a2", 1, 0), ("a1", 1, 3)
        ]
    ]  # fmt: skip
    by_id = sorted(expected, key=lambda context: context.id)
    await any_store.contexts.insert(by_id)
    claimed: list[Context] = []
    while found := await claim(any_store, a_claim(), limit):
        claimed += found
    assert [context.id for context in claimed] == [context.id for context in expected]


@pytest.mark.conformance
@pytest.mark.parametrize("limit", [1, 2])
async def test_a_claim_writes_its_lease_and_takes_the_next_attempt_and_one_try(
    any_store: Store, limit: int
) -> None:
    context = a_context(attempt=6, tries=2, input={"text": "as it was"})
    await any_store.contexts.insert([context])
    lease = a_lease()
    at = NOW + SECOND
    claimed = await claim(any_store, a_claim(lease=lease, at=at), limit)
    expected = replace(context, status=ContextStatus.RUNNING, attempt=7, tries=3, lease=lease, started_at=at)
    assert claimed == [expected]
    assert await the_context(any_store, context) == expected


@pytest.mark.parametrize("limit", [1, 10])
async def test_what_is_not_pending_in_the_queues_of_the_service_is_left_alone(
    any_store: Store, limit: int
) -> None:
    others = [
        a_context(service="analysis"),
        a_context(queue="slow"),
        *(a_context(status=status) for status in ContextStatus if status is not ContextStatus.PENDING),
    ]
    await any_store.contexts.insert(others)
    assert await claim(any_store, a_claim(), limit) == []
    assert [await the_context(any_store, other) for other in others] == others


@pytest.mark.conformance
async def test_what_a_claim_took_is_found_by_its_lease_and_nothing_else_is(any_store: Store) -> None:
    contexts = many_contexts(5)
    await any_store.contexts.insert(contexts)
    mine, ours = a_lease(), a_lease()
    taken = await claim_many(any_store, a_claim(lease=mine), 2)
    await claim_many(any_store, a_claim(lease=ours), 2)
    found = await any_store.claims.find_claimed(mine)
    assert sorted(found, key=lambda context: context.id) == sorted(taken, key=lambda context: context.id)
    assert await any_store.claims.find_claimed(a_lease()) == []


async def test_the_depth_counts_what_waits_in_one_queue(any_store: Store) -> None:
    await any_store.contexts.insert([*many_contexts(3), a_context(queue="slow"), a_context(service="x")])
    assert await any_store.claims.depth("generation", "default") == 3


@pytest.mark.parametrize(("limit", "command"), [(1, "findAndModify"), (2, "update")])
async def test_a_claim_whose_answer_is_lost_is_unknown_and_is_found_later(
    store: Store, mongodb_uri: str, database_name: str, limit: int, command: str
) -> None:
    contexts = many_contexts(2)
    await store.contexts.insert(contexts)
    lease = a_lease()
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        # The server applies it, and then says that the majority did not confirm it.
        await point.fail(command, writeConcernError={"code": 64, "errmsg": "waiting timed out"})
        with pytest.raises(WriteOutcomeUnknown):
            await claim(fragile, a_claim(lease=lease), limit)
        await point.off()
        found = await fragile.claims.find_claimed(lease)
    assert {context.id for context in found} == {context.id for context in contexts[:limit]}


async def test_a_batch_takes_what_has_changed_since_it_was_read_as_it_is_now(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = many_contexts(3)
    await store.contexts.insert([first, second, third])

    async def claim_two_and_give_one_back() -> None:
        taken, _ = await claim_many(store, a_claim(), 2)
        await store.outcomes.apply([Outcome(context=taken, transition=released(at=NOW))])

    meanwhile(monkeypatch, claim_two_and_give_one_back)
    claimed = await claim_many(store, a_claim(), 3)
    assert claimed == [await the_context(store, first), await the_context(store, third)]
    assert [context.attempt for context in claimed] == [2, 1]


async def test_a_batch_takes_nothing_that_was_told_to_stop_since_it_was_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = many_contexts(2)
    await store.contexts.insert([first, second])
    meanwhile(monkeypatch, lambda: store.cancellation.flag_contexts(first.request_id, CANCELLED))
    claimed = await claim_many(store, a_claim(), 2)
    assert [context.id for context in claimed] == [second.id]


@pytest.mark.parametrize("count", [1, 2])
async def test_what_was_named_by_mistake_is_not_claimed(any_store: Store, count: int) -> None:
    others = [a_context(queue="slow"), a_context(service="analysis"), a_context(status=ContextStatus.BLOCKED)]
    await any_store.contexts.insert(others)
    for other in others:
        named = [Candidate(other.id, other.rank), Candidate("nobody.draft", 1)][:count]
        if count == 1:
            assert await any_store.claims.claim_one(a_claim(), *named) is None
        else:
            assert await any_store.claims.claim_many(a_claim(), [each.id for each in named]) == []
    assert [await the_context(any_store, other) for other in others] == others


async def test_contexts_of_different_attempts_are_claimed_in_one_batch(any_store: Store) -> None:
    contexts = [replace(context, attempt=rank % 3) for rank, context in enumerate(many_contexts(7))]
    await any_store.contexts.insert(contexts)
    claimed = await claim_many(any_store, a_claim(), 7)
    assert claimed == [await the_context(any_store, context) for context in contexts]
    assert [context.attempt for context in claimed] == [1, 2, 3, 1, 2, 3, 1]


async def test_a_batch_that_cannot_be_read_back_is_unknown_and_never_said_to_be_unwritten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.contexts.insert(many_contexts(3))

    def unreachable(*_: object, **__: object) -> None:
        raise ServerSelectionTimeoutError("no primary")

    async def nothing_is_read_any_more() -> None:
        monkeypatch.setattr(AsyncCollection, "find", unreachable)

    meanwhile(monkeypatch, nothing_is_read_any_more)
    lease = a_lease()
    with pytest.raises(WriteOutcomeUnknown):
        await claim_many(store, a_claim(lease=lease), 3)
    monkeypatch.undo()
    assert len(await store.claims.find_claimed(lease)) == 3
