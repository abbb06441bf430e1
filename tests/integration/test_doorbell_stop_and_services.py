"""Doorbell: whoever works on a context hears that it is to stop, and workers hear of their services."""

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.doorbell import Topic
from tests.support.contexts import a_context
from tests.support.explained_commands import Document
from tests.support.listening_bells import LIMIT, NOW_OR_NEVER, listening, silent_until


@pytest.mark.parametrize("field", ["cancel_requested", "deadline_passed"])
async def test_stop_rings_for_the_context_that_is_to_stop_and_for_no_other(
    any_store: Store, raw: AsyncDatabase[Document], field: str
) -> None:
    contexts = [a_context("draft", request_id="r"), a_context("drafts", request_id="r")]
    await any_store.contexts.insert(contexts)
    listeners = (Topic.STOP, "r.draft"), (Topic.STOP, "r.drafts"), (Topic.WORK, "last")
    async with listening(any_store, *listeners) as [bell, other, last]:
        await raw.contexts.update_many({"_id": {"$in": ["r.draft"]}}, {"$set": {field: True}})
        assert await bell.wait(LIMIT)
        await raw.contexts.update_one({"_id": "r.drafts"}, {"$set": {field: False, "status": "pending"}})
        assert await silent_until(any_store, other, last, key="last")
        assert not await bell.wait(NOW_OR_NEVER)


async def test_the_services_ring_for_what_changes_whether_they_may_be_called(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    listeners = (Topic.SERVICES, "generation"), (Topic.SERVICES, "analysis"), (Topic.WORK, "last")
    async with listening(any_store, *listeners) as [bell, other, last]:
        await raw.services.insert_one({"_id": "generation", "revision": 1})
        assert await bell.wait(LIMIT)
        await raw.services.update_one({"_id": "generation"}, {"$inc": {"revision": 1}})
        assert await bell.wait(LIMIT)
        await raw.services.replace_one({"_id": "generation"}, {"revision": 2})
        assert await bell.wait(LIMIT)
        await raw.services.update_one({"_id": "generation"}, {"$set": {"window.calls": 20}})
        assert await silent_until(any_store, bell, last, key="last")
        await raw.services.delete_one({"_id": "generation"})
        assert await bell.wait(LIMIT)
        assert not await other.wait(NOW_OR_NEVER)
