"""Claims as tests make them: from the line of `a_context`, or from all lines in their order."""

from collections.abc import Awaitable, Callable

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.line import Candidate, Line
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import LineCollection, Stretch


def a_stretch(service: str = "generation", *, limit: int = 1) -> Stretch:
    """The first contexts of those that `a_context` makes where nothing else is said."""
    return Stretch(line=Line(service, "default", 0, "default"), limit=limit)


async def candidates(store: Store, claim: Claim, limit: int) -> list[Candidate]:
    """The first contexts that wait for such a claim, by queue, priority and rank."""
    found: list[Candidate] = []
    for queue in claim.queues:
        _, priorities = await store.lines.priorities(claim.service, queue)
        for priority in sorted(priorities):
            heads = await store.lines.heads(claim.service, queue, priority)
            stretches = [Stretch(line=line, limit=limit) for line in heads.first]
            waiting = await store.lines.waiting(stretches) if stretches else []
            found += sorted(
                (each for line in waiting for each in line), key=lambda each: (each.rank, each.id)
            )
    return found[:limit]


async def claim_one(store: Store, claim: Claim) -> Context | None:
    """Claim the first context that waits for such a claim."""
    first = await candidates(store, claim, 1)
    return await store.claims.claim_one(claim, *first) if first else None


async def claim_many(store: Store, claim: Claim, limit: int) -> list[Context]:
    """Claim the first contexts that wait for such a claim, together."""
    return await store.claims.claim_many(claim, [each.id for each in await candidates(store, claim, limit)])


async def claim_waiting(contexts: ContextManager, claim: Claim, limit: int) -> list[Context]:
    """Claim the first contexts that wait for such a claim, and have odd ones settled."""
    waiting = await candidates(contexts.store, claim, limit)
    return await contexts.claim(claim, waiting) if waiting else []


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]]) -> None:
    """Let something happen between the two halves of the next batch: what is read, and what is taken."""
    waiting = LineCollection.waiting

    async def read_and_then(lines: LineCollection, stretches: list[Stretch]) -> list[list[Candidate]]:
        found = await waiting(lines, stretches)
        monkeypatch.undo()
        await happens()
        return found

    monkeypatch.setattr(LineCollection, "waiting", read_and_then)
