"""What a worker looks for although nobody told of it, and what of that it cannot claim."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.request import Caller
from agent_service.store import Store
from agent_service.store.notifier import Notification, Topic
from agent_service.workers import roll
from agent_service.workers.claimer import Claimer
from tests.support.waiting import until
from tests.support.worker_tools import (
    Raw,
    read,
    step,
    submit,
)

LEASE = timedelta(seconds=30)


def claimer_of(contexts: ContextManager, *, look_every: timedelta = timedelta(hours=1)) -> Claimer:
    return Claimer(
        contexts,
        service="generation",
        queues=("default",),
        worker_id="worker",
        lease=LEASE,
        look_every=look_every,
    )


async def many(store: Store, count: int) -> str:
    return await submit(store, *(step(f"step_{number:02}") for number in range(count)))


async def test_what_nobody_told_of_is_looked_for_although_other_work_comes_now_and_then(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    claimer = Claimer(
        ContextManager(store),
        service="generation",
        queues=("default",),
        worker_id="worker",
        lease=LEASE,
        look_every=timedelta(milliseconds=1),
    )
    assert not (await claimer.claim(1)).contexts
    await many(store, 1)

    async def claimed() -> Sequence[Context]:
        return (await claimer.claim(1)).contexts

    found: Sequence[Context] = await until(claimed)
    assert len(found) == 1


@pytest.mark.parametrize("how", ["nobody", "without a line"])
async def test_what_nobody_named_is_looked_for_while_others_come_one_by_one(store: Store, how: str) -> None:
    often = timedelta(milliseconds=300) if how == "nobody" else timedelta(hours=1)
    claimer = claimer_of(ContextManager(store), look_every=often)
    assert not (await claimer.claim(1)).contexts
    unnamed = await submit(store, caller=Caller(organization_id="elsewhere"))
    if how == "without a line":
        claimer.hear(Notification(topic=Topic.WORK, key="generation"))

    async def claimed() -> bool:
        context = await read(store, f"{await submit(store)}.draft")
        told = Notification(topic=Topic.WORK, context_id=context.id, line=context.line, rank=context.rank)
        claimer.hear(told)
        # The first of these finds what was told of, and the second one nothing.
        found = [*(await claimer.claim(1)).contexts, *(await claimer.claim(10)).contexts]
        return unnamed in {each.request_id for each in found}

    found: bool = await until(claimed, seconds=20)
    assert found


async def test_a_look_that_took_long_puts_the_next_one_off_by_no_more_than_a_few_seconds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.workers.claimer._PART_OF_LOOKS", 10**9)
    claimer = claimer_of(ContextManager(store))
    await claimer.claim(1)
    claimer.look_soon()
    again_in = claimer.again_in()
    assert again_in is not None
    assert again_in <= timedelta(seconds=5)


async def test_a_long_backlog_of_many_organizations_is_claimed_without_a_word(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll, "_MOST_DEEP", 5)
    for number in range(20):
        caller = Caller(organization_id=f"organization-{number}")
        await submit(store, *(step(f"step_{count}") for count in range(3)), caller=caller)
    claimer = claimer_of(ContextManager(store))
    claimed = 0
    while claimed < 60:
        found = len((await claimer.claim(64)).contexts)
        claimed += found
        if not found:
            # It says when to come again, whatever anybody tells.
            again_in = claimer.again_in()
            assert again_in is not None
            await asyncio.sleep(again_in.total_seconds())


async def test_a_context_whose_id_is_no_text_ends_and_keeps_nothing_else_from_being_claimed(
    store: Store, raw: Raw
) -> None:
    await many(store, 3)
    [document] = await raw.contexts.find().sort("rank").to_list(1)
    later = {**document, "_id": {"is": "odd"}, "rank": document["rank"] + 1_000_000}
    await raw.contexts.insert_one(later)
    claimed = await claimer_of(ContextManager(store)).claim(5)
    assert len(claimed.contexts) == 3

    async def ended_too() -> bool:
        return await raw.contexts.find_one({"_id": {"is": "odd"}, "status": "failed"}) is not None

    ended_as_well: bool = await until(ended_too)
    assert ended_as_well
