"""Whichever write a process dies at while a request is cancelled, or ended at its deadline, it ends once."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.stop import STOPS, stopped
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from tests.support.change_history import change_history
from tests.support.crashing import Crash, crash_at_write
from tests.support.hand_worker import SERVICES, claim, end, success
from tests.support.preparing import Prepare
from tests.support.rescuers import SHORT_LEASE, a_rescuer, repair
from tests.support.submissions import DIAMOND, planned
from tests.support.worker_tools import Raw


async def nothing_began(contexts: ContextManager, raw: Raw) -> list[Context]:
    return []


async def first_step_runs(contexts: ContextManager, raw: Raw) -> list[Context]:
    return await claim(contexts, "generation", lease=SHORT_LEASE)


async def one_branch_runs(contexts: ContextManager, raw: Raw) -> list[Context]:
    """The first step has completed, one of the two that waited for it runs, the other one is pending."""
    [top] = await claim(contexts, "generation")
    await end(contexts, top, success(contexts, top))
    return await claim(contexts, "analysis", lease=SHORT_LEASE)


async def half_planned(contexts: ContextManager, raw: Raw) -> list[Context]:
    """Its planner died between two inserts."""
    await raw["contexts"].delete_many({"step": {"$in": ["top", "left"]}})
    await raw["requests"].update_one({}, {"$set": {"planned": False}})
    return []


async def end_unsettled(contexts: ContextManager, raw: Raw) -> list[Context]:
    """The first step has completed, and nothing has followed from it yet."""
    [top] = await claim(contexts, "generation")
    lost = await contexts.finish([Outcome(context=top, transition=success(contexts, top))])
    assert not lost
    return []


STATES: list[Callable[[ContextManager, Raw], Awaitable[list[Context]]]] = [
    nothing_began,
    first_step_runs,
    one_branch_runs,
    half_planned,
    end_unsettled,
]
#: One in which nothing is missing, with each way to die, and one in which a step has to be inserted first.
QUICK = {(one_branch_runs, False), (one_branch_runs, True), (half_planned, True)}
each_state_and_way = pytest.mark.parametrize(
    ("state", "applied"),
    [
        pytest.param(
            state,
            applied,
            id=f"{state.__name__}-{'applied' if applied else 'not sent'}",
            marks=() if (state, applied) in QUICK else pytest.mark.exhaustive,
        )
        for state in STATES
        for applied in (False, True)
    ],
)


async def work_as_told(contexts: ContextManager) -> None:
    """Claim everything there is; what is flagged is stopped, as a worker does, and the rest completes."""
    for service in SERVICES:
        for context in await claim(contexts, service, limit=10):
            stop = next((stop for stop in STOPS if getattr(context, stop.flag)), None)
            transition = success(contexts, context) if stop is None else stopped(stop, at=contexts.now())
            await end(contexts, context, transition)


async def crash_everywhere(
    uri: str,
    store: Store,
    raw: Raw,
    prepared: Prepare,
    state: Callable[[ContextManager, Raw], Awaitable[list[Context]]],
    act: Callable[[Store, str], Awaitable[Any]],
    *,
    applied: bool,
) -> tuple[list[RequestView], int]:
    """Have `act` die at its first write, its second one, and so on; returns how these requests ended."""
    views: list[RequestView] = []
    crashed = True
    while crashed:
        for name in ("contexts", "requests", "events"):
            await raw[name].delete_many({})
        async with change_history(raw) as history:
            request_id = (await RequestService(store).submit(DIAMOND)).request.id
            await planned(store)
            await state(ContextManager(store), raw)
            async with Store.connect(uri, database=raw.name) as dying:
                await prepared(dying)
                with crash_at_write(len(views), applied=applied) as writes, suppress(Crash):
                    try:
                        await act(dying, request_id)
                    finally:
                        # In the background it dies too.
                        await planned(dying)
            crashed = writes.crashed
            request = await store.requests.get(request_id)
            assert request is not None
            if not request.cancel_requested and act is cancel:
                # It died before anybody knew; the client, who has no answer, asks again.
                await act(store, request_id)
            views.append(await repair(store, request_id, work=work_as_told))
        assert history.changes_after_an_end() == []
        assert len(history.ends_of("requests", request_id)) == 1
        for context in views[-1].contexts:
            assert len(history.ends_of("contexts", context.id)) == 1
    return views, len(views) - 1


async def cancel(store: Store, request_id: str) -> None:
    await RequestService(store).cancel(request_id)


async def pass_the_deadline(store: Store, request_id: str) -> None:
    await a_rescuer(store).sweep()


def assert_all_of_it_ended(view: RequestView) -> None:
    assert len(view.contexts) == 4
    assert view.request.planned
    assert view.request.expires_at is not None
    for context in view.contexts:
        assert context.status.ended
        assert context.expires_at is not None
        assert context.expires_at > view.request.expires_at


@each_state_and_way
async def test_a_crash_at_any_write_of_a_cancellation_is_repaired(
    mongodb_uri: str, store: Store, raw: Raw, prepared: Prepare, state: Any, applied: bool
) -> None:
    views, writes = await crash_everywhere(mongodb_uri, store, raw, prepared, state, cancel, applied=applied)
    # Asking, flagging, ending what waits, and settling.
    assert writes >= 3
    for at, view in enumerate(views):
        assert_all_of_it_ended(view)
        assert view.status == "cancelled", f"after a crash at write {at}"
        completed = [context.step for context in view.contexts if context.status == "completed"]
        assert completed == (["top"] if state in (one_branch_runs, end_unsettled) else [])


@each_state_and_way
async def test_a_crash_at_any_write_of_a_sweep_over_deadlines_is_repaired(
    mongodb_uri: str, store: Store, raw: Raw, prepared: Prepare, state: Any, applied: bool
) -> None:
    async def state_with_deadline(contexts: ContextManager, mine: Raw) -> list[Context]:
        claimed: list[Context] = await state(contexts, mine)
        past = contexts.now() - timedelta(minutes=1)
        await mine["requests"].update_one({}, {"$set": {"deadline_at": past}})
        return claimed

    views, writes = await crash_everywhere(
        mongodb_uri, store, raw, prepared, state_with_deadline, pass_the_deadline, applied=applied
    )
    assert writes >= 2
    for at, view in enumerate(views):
        assert_all_of_it_ended(view)
        assert view.status == "failed", f"after a crash at write {at}"
        codes = {context.error.code for context in view.contexts if context.error is not None}
        assert codes == {"deadline_exceeded"}
