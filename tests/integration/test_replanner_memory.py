"""What a replanner remembers of a look, takes at once, and tells of contexts that others have inserted."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from pymongo import message

from agent_service import replanner as replanner_module
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreError
from agent_service.domain.request import Submission
from agent_service.replanner import Replanner
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.notifier import Topic
from tests.support.contexts import NOW, SECOND, a_request, a_step
from tests.support.open_subscriptions import forget_later_looks
from tests.support.rescuers import a_replanner
from tests.support.submissions import CHAIN, planned
from tests.support.worker_tools import Raw

AN_HOUR = timedelta(hours=1)
LIMIT = timedelta(seconds=20)
MIB = 2**20


async def test_contexts_that_are_there_and_that_nobody_told_of_are_told_of(store: Store, raw: Raw) -> None:
    request_id = (await RequestService(store).submit(CHAIN)).request.id
    await planned(store)
    await raw.requests.update_one({"_id": request_id}, {"$set": {"planned": False}})
    with store.notifier.subscribe(Topic.WORK, "generation") as work:
        # Whoever begins to listen looks at everything once.
        assert await store.notifier.opened(LIMIT)
        forget_later_looks(store)
        await work.wait(timedelta(0))
        await a_replanner(store).look()
        assert await work.wait(timedelta(0))


async def test_what_a_look_saw_that_was_broken_off_is_remembered(
    store: Store, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replanner_module, "_PAGE", 1)
    await store.requests.insert_many(
        [a_request(a_step("one"), created_at=NOW - n * SECOND) for n in range(3)]
    )
    replanner = Replanner(store, contexts, between=AN_HOUR)
    look_at, looks = replanner._look_at, 0

    async def look_once(page: Sequence[str], due: dict[str, float], repairs: Any) -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise StoreError("no answer")
        await look_at(page, due, repairs)

    monkeypatch.setattr(replanner, "_look_at", look_once)
    with pytest.raises(StoreError):
        await replanner.look()
    assert len(replanner._due) == 1


async def test_of_large_requests_few_contexts_go_into_one_message(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = Submission(
        steps=tuple(a_step(f"s{number}") for number in range(60)), metadata={"text": "x" * MIB}
    )
    await store.requests.insert_many([a_request(submission=submission) for _ in range(3)])
    encode, sizes = message._op_msg, list[int]()

    def measured(*arguments: Any, **options: Any) -> Any:
        answer = encode(*arguments, **options)
        sizes.append(len(answer[1]))
        return answer

    monkeypatch.setattr(message, "_op_msg", measured)
    await a_replanner(store).look()
    await planned(store)
    assert await raw.requests.count_documents({"planned": True}) == 3
    assert await raw.contexts.count_documents({}) == 180
    assert 4 * MIB < max(sizes) < 9 * MIB


async def test_large_requests_are_read_one_by_one_and_small_ones_together(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Submission(steps=(a_step("one"),), metadata={"text": "x" * 2 * MIB})
    ways: list[dict[str, Any]] = [{}, {}, {"submission": large}, {"submission": large}, {}, {}]
    requests = [a_request(created_at=NOW + n * SECOND, **way) for n, way in enumerate(ways)]
    await store.requests.insert_many(requests)
    read, together = store.requests.unplanned, list[list[str]]()

    async def noted(request_ids: Sequence[str]) -> Any:
        together.append(list(request_ids))
        return await read(request_ids)

    monkeypatch.setattr(store.requests, "unplanned", noted)
    monkeypatch.setattr(random, "random", lambda: 0.0)
    replanner = Replanner(store, ContextManager(store), young=-AN_HOUR, between=timedelta(0))
    await replanner.look()
    ids = [request.id for request in requests]
    assert together == [ids[:2], ids[2:3], ids[3:4], ids[4:]]
