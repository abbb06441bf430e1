"""Contexts with a field of a wrong type in the line: each fails alone, and all other work is done."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from bson import Decimal128, ObjectId, Regex, Timestamp
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ServerSelectionTimeoutError

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.request import RequestStatus
from agent_service.store import Store
from agent_service.workers.claimer import Claimer
from tests.support.worker_tools import HandlerWorker, Raw, by_step, echo, ended, error_of, running, submit

#: One wrong field for each of twelve contexts, of which one can be claimed and not counted up.
WRONG: tuple[tuple[str, Any], ...] = (
    ("run_at", "soon"),
    ("deadline_at", 5),
    ("created_at", None),
    ("attempt", "none"),
    ("tries", [1]),
    ("max_attempts", 2.5),
    ("history", "a long one"),
    ("waiting_on", {"draft": 1}),
    ("metadata", Regex("a")),
    ("input", ObjectId()),
    ("organization_id", Timestamp(1, 1)),
    ("usage", Decimal128("1")),
)


async def damage_in_turn(raw: Raw, request_ids: list[str], wrong: tuple[tuple[str, Any], ...]) -> None:
    """One wrong field for each of these requests' only contexts."""
    for request_id, (field, value) in zip(request_ids, wrong, strict=True):
        await raw.contexts.update_one({"_id": f"{request_id}.draft"}, {"$set": {field: value}})


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_twelve_contexts_with_a_wrong_field_each_fail_alone_and_all_others_complete(
    store: Store, raw: Raw, concurrency: int
) -> None:
    bad = [await submit(store) for _ in WRONG]
    good = [await submit(store) for _ in range(24)]
    await damage_in_turn(raw, bad, WRONG)
    async with running(HandlerWorker(store, echo, concurrency=concurrency)), asyncio.timeout(20):
        for request_id in good:
            assert (await ended(store, request_id)).status is RequestStatus.COMPLETED
        # What comes later is done by the same worker.
        late = await submit(store)
        assert (await ended(store, late)).status is RequestStatus.COMPLETED
        views = [await ended(store, request_id) for request_id in bad]
    assert [view.status for view in views] == [RequestStatus.FAILED] * len(WRONG)
    codes = [error_of(by_step(view)["draft"]) for view in views]
    assert codes == ["undecodable_context"] * len(WRONG)


def no_primary(*_: object, **__: object) -> None:
    raise ServerSelectionTimeoutError("no primary")


@pytest.mark.parametrize(
    ("others", "wrong"),
    [(0, ("usage", Decimal128("1"))), (2, ("usage", Decimal128("1"))), (2, ("tries", "none"))],
    ids=["alone", "in a batch", "where the batch ended"],
)
async def test_what_was_claimed_beside_one_that_could_not_be_ended_is_handed_back(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, others: int, wrong: tuple[str, Any]
) -> None:
    good = [await submit(store) for _ in range(others)]
    await damage_in_turn(raw, [await submit(store)], (wrong,))
    claimer = Claimer(
        ContextManager(store),
        service="generation",
        queues=("default",),
        worker_id="worker",
        lease=timedelta(minutes=5),
    )
    with monkeypatch.context() as patch:
        patch.setattr(AsyncCollection, "update_one", no_primary)
        with pytest.raises(WriteOutcomeUnknown):
            await claimer.claim(others + 1)
    claimed = [context for _ in good for context in (await claimer.claim(1)).contexts]
    assert sorted(context.request_id for context in claimed) == sorted(good)
    assert [(context.attempt, context.tries) for context in claimed] == [(2, 1)] * others
