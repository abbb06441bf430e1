"""A step that waits for several others is told of once it waits for nothing, whoever settles their ends."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus, Lease
from agent_service.domain.line import Candidate, Line
from agent_service.domain.transitions import completed
from agent_service.settler import WrittenEnd
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.outcomes import Outcome
from tests.support.claiming import claim_many
from tests.support.contexts import NOW, a_context, a_request, a_step


async def outcomes_of_a_join(store: Store) -> list[Outcome]:
    """How `a` and `b` are to end, for both of which `d` waits."""
    steps = a_step("a"), a_step("b"), a_step("d", "a", "b")
    await store.requests.insert(a_request(*steps, id="r", planned=True))
    waiting = a_context("d", request_id="r", status=ContextStatus.BLOCKED, waiting_on=("a", "b"))
    await store.contexts.insert([waiting, *(a_context(name, request_id="r") for name in "ab")])
    lease = Lease(token="token", worker="worker", expires_at=NOW + timedelta(hours=1))
    claim = Claim(service="generation", queues=("default",), lease=lease, at=NOW)
    claimed = sorted(await claim_many(store, claim, 10), key=lambda context: context.step)
    end = completed(at=NOW, output={"text": "done"}, usage=None, chunks=0)
    return [Outcome(context=context, transition=end) for context in claimed]


async def end(manager: ContextManager, *outcomes: Outcome) -> None:
    """Write these ends and settle them."""
    assert not await manager.finish(outcomes)
    await manager.settle_ends([WrittenEnd.of(outcome) for outcome in outcomes])


def told_by(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that this process says wait to be claimed."""
    told: list[str] = []
    work = store.notifier.work

    def tell(waiting: dict[Line, Sequence[Candidate]]) -> None:
        told.extend(each.id for candidates in waiting.values() for each in candidates)
        work(waiting)

    monkeypatch.setattr(store.notifier, "work", tell)
    return told


async def test_whoever_releases_it_last_tells_although_it_read_before_the_other_one(
    store: Store, mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Store.connect(mongodb_uri, database=database_name) as slow_store:
        slow, quick = ContextManager(slow_store), ContextManager(store)
        reached, go_on = asyncio.Event(), asyncio.Event()
        write = slow_store.settlement.write_consequences
        by_slow = told_by(slow_store, monkeypatch)

        async def write_late(*given: Any, **named: Any) -> None:
            reached.set()
            await go_on.wait()
            await write(*given, **named)

        monkeypatch.setattr(slow_store.settlement, "write_consequences", write_late)
        a, b = await outcomes_of_a_join(store)
        settling = asyncio.create_task(end(slow, a))
        await reached.wait()
        await end(quick, b)
        assert not by_slow
        go_on.set()
        await settling
    assert by_slow == ["r.d"]


async def test_one_who_settles_both_ends_tells_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = await outcomes_of_a_join(store)
    told = told_by(store, monkeypatch)
    await end(ContextManager(store), *outcomes)
    assert told == ["r.d"]
