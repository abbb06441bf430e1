"""Two processes promote at the same time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_service.domain.context import ContextStatus
from agent_service.store import Store, schedule
from agent_service.store.driver import bulk_write
from tests.support.contexts import NOW, SECOND, a_context, the_context
from tests.support.worker_tools import Raw


@pytest.mark.parametrize("cancel_requested", [False, True])
async def test_what_was_scheduled_anew_after_it_was_read_keeps_its_new_time(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, cancel_requested: bool
) -> None:
    scheduled: dict[str, Any] = {"status": ContextStatus.SCHEDULED, "released_at": None, "run_at": NOW}
    again, due = a_context(**scheduled), a_context(**scheduled)
    await store.contexts.insert([again, due])
    later = NOW + timedelta(minutes=5)
    write = bulk_write

    async def overtaken(collection: Any, updates: Sequence[Any], **options: Any) -> int:
        # Another process promoted it, and its worker had it wait for another try.
        await raw.contexts.update_one(
            {"_id": again.id}, {"$set": {"run_at": later, "cancel_requested": cancel_requested}}
        )
        return await write(collection, updates, **options)

    monkeypatch.setattr(schedule, "bulk_write", overtaken)
    await store.schedule.promote(NOW + SECOND)
    found = await the_context(store, again)
    assert (found.status, found.run_at) == (ContextStatus.SCHEDULED, later)
    assert (await the_context(store, due)).status is ContextStatus.PENDING
    assert await store.schedule.next_run_at() == later
