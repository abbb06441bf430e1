"""Whichever write a process dies at, what it leaves is repaired and the request ends as it would have."""

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


async def process(store: Store, failing: tuple[str, ...]) -> None:
    """One life of a process: it takes the request and does all of its steps."""
    try:
        await RequestService(store).submit(DIAMOND, idempotency_key=KEY)
        await work_off(ContextManager(store), failing=failing, lease=SHORT_LEASE)
    finally:
        # In the background it dies too.
        await planned(store)


async def ask_again(store: Store, failing: tuple[str, ...]) -> RequestView:
    """What the next start does: the client asks again, the rescuer sweeps, workers work."""
    accepted = await RequestService(store).submit(DIAMOND, idempotency_key=KEY)
    work = partial(work_off, failing=failing, lease=SHORT_LEASE)
    return await repair(store, accepted.request.id, work=work)


@pytest.mark.parametrize("applied", [False, True], ids=["not sent", "applied"])
@pytest.mark.parametrize(
    "failing",
    [
        pytest.param((), id="all complete", marks=pytest.mark.exhaustive),
        pytest.param(("left",), id="left fails", marks=pytest.mark.exhaustive),
        pytest.param(("top",), id="top fails"),
    ],
)
async def test_a_crash_at_any_write_is_repaired(
    mongodb_uri: str, raw: Raw, prepared: Prepare, failing: tuple[str, ...], applied: bool
) -> None:
    at, crashed = 0, True
    while crashed:
        async with Store.connect(mongodb_uri, database=raw.name) as store:
            await prepared(store)
            with crash_at_write(at, applied=applied) as writes, suppress(Crash):
                await process(store, failing)
            crashed = writes.crashed
        async with Store.connect(mongodb_uri, database=raw.name) as store:
            await prepared(store)
            view = await ask_again(store, failing)
            assert_ended_as_planned(view, failing, at)
        await empty_database(raw)
        at += 1
    # Submitting takes three writes, and each of the steps that run at least four more.
    assert at >= 3 + 4 * (2 if failing == ("top",) else 3)


def assert_ended_as_planned(view: RequestView, failing: tuple[str, ...], at: int) -> None:
    statuses = {context.step: context.status for context in view.contexts}
    completed, failed, cancelled = (
        ContextStatus.COMPLETED,
        ContextStatus.FAILED,
        ContextStatus.CANCELLED,
    )
    expected = {
        (): {"top": completed, "left": completed, "right": completed, "bottom": completed},
        ("left",): {"top": completed, "left": failed, "right": completed, "bottom": cancelled},
        ("top",): {"top": failed, "left": cancelled, "right": cancelled, "bottom": cancelled},
    }[failing]
    assert statuses == expected, f"after a crash at write {at}"
    assert view.status is (RequestStatus.FAILED if failing else RequestStatus.COMPLETED)
    assert view.request.planned
    for context in view.contexts:
        assert context.tries <= context.max_attempts
        assert context.expires_at is not None
        assert view.request.expires_at is not None
        assert context.expires_at > view.request.expires_at
