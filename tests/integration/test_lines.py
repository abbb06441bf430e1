"""Lines: what waits is read from an index alone, as much as is asked for, however much waits beside it."""

from dataclasses import replace

import pytest

from agent_service.domain.context import Context
from agent_service.domain.line import Candidate, Line
from agent_service.domain.request import Caller
from agent_service.store import Store
from agent_service.store.lines import Heads, Stretch
from agent_service.workers import line_looks
from agent_service.workers.line_looks import LineLooks
from tests.support.contexts import a_context, many_contexts
from tests.support.explained_commands import Watch

GENERATION = "generation"


def of(organization_id: str, *, rank: int, priority: int = 0, queue: str = "default") -> Context:
    context = a_context(rank=rank, priority=priority, queue=queue)
    return replace(context, caller=Caller(organization_id=organization_id))


def candidate(context: Context) -> Candidate:
    return Candidate(context.id, context.rank)


@pytest.mark.conformance
async def test_the_head_of_a_line_is_what_was_submitted_first(any_store: Store) -> None:
    acme, other = of("acme", rank=2), of("other", rank=3)
    beside = [of("acme", rank=1, priority=2), of("acme", rank=1, queue="slow"), of("acme", rank=5)]
    await any_store.contexts.insert([acme, other, *beside])
    odd, priorities = await any_store.lines.priorities(GENERATION, "default")
    assert (odd, sorted(priorities)) == ([], [0, 2])
    found = await any_store.lines.heads(GENERATION, "default", 0)
    assert found == Heads(first={acme.line: candidate(acme), other.line: candidate(other)}, odd=[])


async def test_of_very_many_lines_each_look_sees_a_part_until_it_has_seen_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_looks, "MOST_AT_ONCE", 2)
    contexts = [of(f"organization-{number}", rank=1) for number in range(5)]
    await store.contexts.insert(contexts)
    looks = LineLooks(store.lines, service=GENERATION, queues=["default"])
    # Nobody knows yet how many there are.
    first = await looks.look()
    assert first.heads == {context.line: candidate(context) for context in contexts}
    assert not looks.unfinished
    new = of("organization-00", rank=1)
    await store.contexts.insert([new])
    lines = {new.line, *first.heads}
    seen: set[Line] = set()
    for expected in (3, 2, 1):
        part = await looks.look()
        assert len(part.heads) == expected
        assert {line for line in lines if part.covers(line)} == {*part.heads}
        seen |= {*part.heads}
        assert looks.unfinished == (seen != lines)
    assert seen == lines
    await store._database["contexts"].update_many({}, {"$set": {"status": "running"}})
    assert not (await looks.look()).heads


@pytest.mark.conformance
async def test_several_lines_are_read_at_once_each_from_its_own_place(any_store: Store) -> None:
    acme = [of("acme", rank=rank) for rank in range(6)]
    other = [of("other", rank=rank) for rank in range(3)]
    await any_store.contexts.insert([*other, *reversed(acme)])
    found = await any_store.lines.waiting(
        [
            Stretch(line=acme[0].line, limit=2, since=3),
            Stretch(line=other[0].line, limit=5),
            Stretch(line=acme[0].line, limit=9, skip=4),
            Stretch(line=Line(GENERATION, "default", 7, "nobody"), limit=1),
        ]
    )
    assert found == [[*map(candidate, acme[3:5])], [*map(candidate, other)], [*map(candidate, acme[4:])], []]


async def test_reading_a_line_looks_at_the_keys_that_it_returns_and_at_no_document(watch: Watch) -> None:
    lines = [Line(GENERATION, "default", 0, "default"), Line(GENERATION, "default", 0, "nobody")]

    async def run(store: Store) -> None:
        await store.lines.waiting([Stretch(line=lines[0], limit=3, since=0)])

    [plan] = await watch(run)
    assert plan.indexes == {"lines"}
    assert (plan.documents, plan.keys) == (0, 3)


async def test_what_has_no_place_in_a_line_is_told_by_its_id(store: Store) -> None:
    await store.contexts.insert(contexts := many_contexts(3))
    for context, odd in zip(
        contexts, ({"rank": "first"}, {"organization_id": 7}, {"priority": "high"}), strict=True
    ):
        await store._database["contexts"].update_one({"_id": context.id}, {"$set": odd})
    odd, priorities = await store.lines.priorities(GENERATION, "default")
    assert priorities == [0]
    odd_ids = [*odd, *(await store.lines.heads(GENERATION, "default", 0)).odd]
    assert sorted(map(str, odd_ids)) == sorted(context.id for context in contexts)
