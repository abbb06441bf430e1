"""What a replanner remembers of a look, and what it tells of contexts that others have inserted."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_service import replanner as replanner_module
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreError
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
