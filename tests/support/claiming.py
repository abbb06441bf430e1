"""What may happen between the two halves of a batch of claims."""

from collections.abc import Awaitable, Callable

import pytest

from agent_service.store import Store
from agent_service.store.claims import Claim
from tests.support.explained_commands import Document


def meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen between the two halves of the next batch: what is read, and what is taken."""
    candidates = store.claims._candidates

    async def read_and_then(claim: Claim, limit: int, skip: int) -> list[Document]:
        found = await candidates(claim, limit, skip)
        monkeypatch.undo()
        await happens()
        return found

    monkeypatch.setattr(store.claims, "_candidates", read_and_then)
