"""However much waits, and for however many organizations, a claim looks at what it takes and at no more."""

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from agent_service.domain.context import Context
from agent_service.domain.line import Candidate, Line
from agent_service.domain.request import Caller
from agent_service.store import Store
from agent_service.store.documents import context_document
from agent_service.store.lines import Stretch
from agent_service.workers.line_looks import MOST_AT_ONCE
from tests.support.contexts import a_claim, a_context
from tests.support.worker_tools import Raw

pytestmark = pytest.mark.fresh_database
LARGE = pytest.mark.exhaustive
_BATCH = 20_000


class Looked:
    """How many index keys and documents the server has looked at."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw

    async def counts(self) -> tuple[int, int]:
        """Of all databases, since it began."""
        status: dict[str, Any] = await self._raw.client.admin.command("serverStatus")
        executor = status["metrics"]["queryExecutor"]
        return int(executor["scanned"]), int(executor["scannedObjects"])

    async def since(self, before: tuple[int, int]) -> tuple[int, int]:
        keys, documents = await self.counts()
        return keys - before[0], documents - before[1]


def owner(number: int) -> str:
    return f"organization-{number:05}"


async def fill(raw: Raw, waiting: int, organizations: int) -> Context:
    """Have so much wait, in lines of as many organizations; returns what one of it looks like."""
    model = replace(a_context(), caller=Caller(organization_id=owner(0)))
    document = context_document(model)
    documents = (
        {**document, "_id": f"{rank:06}.draft", "rank": rank, "organization_id": owner(rank % organizations)}
        for rank in range(1, waiting + 1)
    )
    while some := list(islice(documents, _BATCH)):
        await raw["contexts"].insert_many(some, ordered=False)
    return model


@pytest.mark.parametrize(
    ("waiting", "organizations"),
    [
        (3_000, 100),
        pytest.param(300_000, 1, marks=LARGE),
        pytest.param(300_000, 100, marks=LARGE),
        pytest.param(300_000, 10_000, marks=LARGE),
    ],
)
async def test_every_query_of_claims_looks_at_what_it_returns(
    store: Store, raw: Raw, waiting: int, organizations: int
) -> None:
    model = await fill(raw, waiting, organizations)
    looked, service, queue = Looked(raw), model.service, model.queue

    before = await looked.counts()
    assert await store.lines.priorities(service, queue) == ([], [0])
    keys, documents = await looked.since(before)
    assert keys <= 2
    assert documents <= 1

    before = await looked.counts()
    heads = await store.lines.heads(service, queue, 0, up_to=owner(MOST_AT_ONCE - 1))
    assert len(heads.first) == min(organizations, MOST_AT_ONCE)
    keys, documents = await looked.since(before)
    # One more, to see where the next line begins.
    assert len(heads.first) <= keys <= len(heads.first) + 1
    assert documents == 0

    lines = [Line(service, queue, 0, owner(number)) for number in range(min(organizations, 16))]
    found: list[list[Candidate]] = []
    for some in (lines[:1], lines):
        before = await looked.counts()
        found = await store.lines.waiting([Stretch(line=line, limit=3, since=1) for line in some])
        assert await looked.since(before) == (sum(map(len, found)), 0)
        assert all(len(each) == min(3, waiting // organizations) for each in found)

    before = await looked.counts()
    claimed = await store.claims.claim_one(a_claim(), Stretch(line=lines[-1], limit=1, since=1))
    assert claimed is not None
    assert await looked.since(before) == (1, 1)

    before = await looked.counts()
    wanted = [each for line in found for each in line if each.id != claimed.id][:20]
    taken = await store.claims.claim_many(a_claim(), [each.id for each in wanted])
    assert [context.id for context in taken] == [each.id for each in wanted]
    keys, documents = await looked.since(before)
    # Once to claim them and once to read what was claimed; between two ids there is one further key.
    assert documents == 2 * len(wanted)
    assert keys <= 4 * len(wanted)

    before = await looked.counts()
    assert await store.claims.depth(service, queue) == waiting - 1 - len(wanted)
    assert (await looked.since(before))[1] == 0
