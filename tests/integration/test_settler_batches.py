"""However the ends of attempts are put together into batches, the database is the same afterwards."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent_service.context_manager import ContextManager
from agent_service.domain.clock import ServerClock
from agent_service.domain.context import Context, ContextStatus, Lease
from agent_service.domain.transitions import Transition, cancelled, completed, failed, released, retry_at
from agent_service.settler import WrittenEnd
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.outcomes import Outcome
from tests.support.claiming import claim_many
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_context, a_request, a_step

#: Two requests of one step, and one whose step `d` waits for the three others.
JOIN = ("a", "b", "c")
STEPS = ("lone.draft", "other.draft", *(f"join.{name}" for name in JOIN))
KINDS = ("completed", "failed", "cancelled", "released", "retrying", "lost", "flagged", "streamed")


def a_transition(kind: str, at: datetime) -> Transition:
    match kind:
        case "failed":
            return failed(at=at, error=AN_ERROR, chunks=0)
        case "cancelled":
            return cancelled(at=at)
        case "released" | "flagged":
            return released(at=at)
        case "retrying":
            return retry_at(at=at, run_at=at + SECOND, error=AN_ERROR, chunks=1)
        case _:
            return completed(at=at, output={"text": "done"}, usage=None, chunks=2 * (kind == "streamed"))


async def fill(store: Store) -> dict[str, Context]:
    """The requests, with everything claimed that can be; by the id of the context."""
    for request_id in ("lone", "other"):
        await store.requests.insert(a_request(id=request_id, planned=True))
        await store.contexts.insert([a_context(request_id=request_id, sole=True)])
    steps = [*(a_step(name) for name in JOIN), a_step("d", *JOIN)]
    await store.requests.insert(a_request(*steps, id="join", planned=True))
    waiting = a_context("d", request_id="join", status=ContextStatus.BLOCKED, waiting_on=JOIN)
    await store.contexts.insert([waiting, *(a_context(name, request_id="join") for name in JOIN)])
    lease = Lease(token="token", worker="worker", expires_at=NOW + timedelta(hours=1))
    claim = Claim(service="generation", queues=("default",), lease=lease, at=NOW)
    return {context.id: context for context in await claim_many(store, claim, 10)}


async def everything(store: Store) -> list[dict[str, Any]]:
    """All requests and contexts, as they are stored."""
    return [
        document
        for name in ("requests", "contexts")
        async for document in store._database[name].find({}, {"fingerprint": 0}, sort=[("_id", 1)])
    ]


async def live(uri: str, database: str, ends: Sequence[tuple[str, str]], sizes: Sequence[int]) -> Any:
    """Write these ends, (context, kind), in batches of these sizes; returns what is stored then."""
    async with Store.connect(uri, database=database) as store:
        for name in ("requests", "contexts"):
            await store._database[name].delete_many({})
        contexts, manager = await fill(store), ContextManager(store)
        for context_id, kind in ends:
            change = {"lost": {"lease.token": "another"}, "flagged": {"cancel_requested": True}}.get(kind)
            if change is not None:
                await store._database["contexts"].update_one({"_id": context_id}, {"$set": change})
        outcomes = [
            Outcome(context=contexts[context_id], transition=a_transition(kind, NOW + number * SECOND))
            for number, (context_id, kind) in enumerate(ends, start=1)
        ]
        lost: set[str] = set()
        for size in sizes:
            batch, outcomes = outcomes[:size], outcomes[size:]
            lost_now = await manager.finish(batch)
            await manager.settle_ends(
                [WrittenEnd.of(each) for each in batch if each.context.id not in lost_now]
            )
            lost |= lost_now
        await store.settled_marks.flush()
        assert not outcomes
        assert lost == {context_id for context_id, kind in ends if kind == "lost"}
        return await everything(store)


@st.composite
def splits(draw: st.DrawFn, total: int) -> list[int]:
    """Sizes of batches that make up this total."""
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(draw(st.integers(1, total - sum(sizes))))
    return sizes


def test_any_split_into_batches_gives_the_same_database(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServerClock, "now", lambda self: NOW + timedelta(minutes=1))
    with asyncio.Runner() as runner:

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @example(order=list(STEPS), kinds=["completed"] * 3 + ["failed", "completed"], sizes=[5])
        @given(
            order=st.permutations(STEPS),
            kinds=st.lists(st.sampled_from(KINDS), min_size=len(STEPS), max_size=len(STEPS)),
            sizes=splits(len(STEPS)),
        )
        def holds(order: list[str], kinds: list[str], sizes: list[int]) -> None:
            ends = list(zip(order, kinds, strict=True))
            one_by_one = runner.run(live(mongodb_uri, database_name, ends, [1] * len(ends)))
            batches = runner.run(live(mongodb_uri, database_name, ends, sizes))
            assert batches == one_by_one

        holds()
