"""A request that is purged while its end is written leaves no callback, whoever comes first."""

from collections.abc import Collection
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.callback import EndedRequest, callback_id
from agent_service.store import Store
from tests.support.callbacks import CALLBACK, requests_with_callbacks
from tests.support.contexts import a_context
from tests.support.hand_worker import work_off
from tests.support.submissions import planned
from tests.support.worker_tools import Raw

ORGANIZATION = "default"


async def submit(store: Store) -> str:
    body = {"service": "analysis", "input": {}, "callback": CALLBACK}
    request_id = (await requests_with_callbacks(store).submit(body)).request.id
    await planned(store)
    return request_id


async def test_a_callback_that_is_made_after_its_request_was_purged_is_taken_away(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = await submit(store)
    read = store.callbacks.ended

    async def purge_after_reading(ids: Collection[str], **options: Any) -> list[EndedRequest]:
        found = await read(ids, **options)
        await store.purging.delete(ORGANIZATION, [request_id])
        return found

    monkeypatch.setattr(store.callbacks, "ended", purge_after_reading)
    await work_off(ContextManager(store))
    assert await raw.contexts.count_documents({}) == 0


async def test_a_callback_that_is_made_while_its_request_is_purged_goes_with_it(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = await submit(store)
    requests = store.purging._requests
    delete = requests.delete_many

    async def settle_late(*arguments: Any, **options: Any) -> Any:
        """Whoever ends the request makes its callback after the contexts and before the request are gone."""
        callback = {"request_id": request_id, "step": "callback", "service": "callback"}
        await store.contexts.insert([a_context(id=callback_id(request_id), **callback)])
        return await delete(*arguments, **options)

    monkeypatch.setattr(requests, "delete_many", settle_late)
    await store.purging.delete(ORGANIZATION, [request_id])
    assert await raw.contexts.count_documents({}) == 0
