"""Whichever write a process dies at while it retries a request, one retry comes of it, and that one ends."""

from contextlib import suppress
from functools import partial

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.request import RequestStatus
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.testing.databases import empty_database
from tests.support.crashing import Crash, crash_at_write
from tests.support.hand_worker import work_off
from tests.support.preparing import Prepare
from tests.support.rescuers import SHORT_LEASE, repair
from tests.support.submissions import DIAMOND, planned
from tests.support.worker_tools import Raw

KEY = "the same key every time"
#: What other processes do.
repaired = partial(repair, work=partial(work_off, lease=SHORT_LEASE))


@pytest.mark.parametrize(
    ("expired", "applied"),
    [
        pytest.param(False, False, id="original there-not sent"),
        pytest.param(False, True, id="original there-applied", marks=pytest.mark.exhaustive),
        pytest.param(True, False, id="original expired-not sent", marks=pytest.mark.exhaustive),
        pytest.param(True, True, id="original expired-applied"),
    ],
)
async def test_a_crash_at_any_write_of_a_retry_leaves_one_that_ends(
    mongodb_uri: str, raw: Raw, prepared: Prepare, expired: bool, applied: bool
) -> None:
    at, crashed = 0, True
    while crashed:
        async with Store.connect(mongodb_uri, database=raw.name) as store:
            await prepared(store)
            requests = RequestService(store)
            old_id = (await requests.submit(DIAMOND)).request.id
            await work_off(ContextManager(store), failing=("left",))
            with crash_at_write(at, applied=applied) as writes, suppress(Crash):
                try:
                    await requests.retry(old_id, idempotency_key=KEY)
                finally:
                    # In the background it dies too.
                    await planned(store)
            crashed = writes.crashed
            retries = raw["requests"]
            left = await retries.distinct("_id", {"retry_of": old_id})
            if expired:
                await raw["contexts"].delete_many({"request_id": old_id})
            if left:
                # Nobody asks again: the rescuer does it alone.
                assert_ended(await repaired(store, left[0]), at, expired=expired)
            again = await RequestService(store).retry(old_id, idempotency_key=KEY)
            assert again.replayed == bool(left)
            assert_ended(await repaired(store, again.request.id), at, expired=expired)
            assert await retries.count_documents({"retry_of": old_id}) == 1, f"after a crash at write {at}"
        await empty_database(raw)
        at += 1
    # The request, its contexts, and that it is planned.
    assert at > 3


def assert_ended(view: RequestView, at: int, *, expired: bool) -> None:
    what = f"after a crash at write {at}"
    statuses = {context.step: context.status for context in view.contexts}
    if expired and ContextStatus.FAILED in statuses.values():
        assert view.status is RequestStatus.FAILED, what
        codes = {context.error.code for context in view.contexts if context.error}
        assert codes == {"original_expired", "dependency_not_completed"}, what
        return
    assert set(statuses.values()) == {ContextStatus.COMPLETED}, what
    assert view.status is RequestStatus.COMPLETED, what
    attempts = {context.step: context.attempt for context in view.contexts}
    assert attempts == {"top": 0, "left": 1, "right": 0, "bottom": 1}, what
    assert all(context.expires_at is not None for context in view.contexts)
