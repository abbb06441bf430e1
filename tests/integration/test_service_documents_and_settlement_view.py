"""A service document or a plan that somebody has spoilt is repaired or ended, and holds nobody up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_service.domain.request import RequestStatus
from agent_service.domain.service_state import Breaker, BreakerState, Counts, Hold
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.support.log_lines import log_lines
from tests.support.worker_tools import HandlerWorker, Raw, echo, ended, running, step, submit

SECRET = "sk-very-secret"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"revision": SECRET},
        {"epoch": SECRET},
        {"holds": SECRET},
        {"holds": {"manual": SECRET}},
        {"window": SECRET},
        {"window.calls": SECRET},
        {"breaker": [SECRET]},
        {"breaker.since": datetime(9999, 12, 31, tzinfo=UTC)},
    ],
)
async def test_a_spoilt_service_can_be_held_counted_and_opened(
    store: Store, raw: Raw, spoilt: dict[str, Any]
) -> None:
    services, now = store.services, store.clock.now()
    state = await services.hold("generation", Hold(name="manual", reason="", since=now, until=None))
    await services.count("generation", Counts(calls=1), epoch=state.epoch, now=now)
    moved = await services.move(state, Breaker(state=BreakerState.RAMPING, since=now))
    assert moved is not None
    await services.count("generation", Counts(calls=1), epoch=moved.epoch, now=now)
    await raw.services.update_one({"_id": "generation"}, {"$set": spoilt})
    with log_lines() as lines:
        state = await services.read("generation")
        held = await services.hold_until("generation", now + timedelta(seconds=9), reason="asked", now=now)
        assert held.holds["retry_after"].reason == "asked"
        opened = Breaker(state=BreakerState.OPEN, since=now, until=now)
        assert await services.move(await services.read("generation"), opened)
        state = await services.read("generation")
        assert await services.count("generation", Counts(calls=2), epoch=state.epoch, now=now)
    assert SECRET not in "".join(lines)


async def test_a_request_whose_plan_is_spoilt_ends_as_failed_with_all_that_waited(
    store: Store, raw: Raw, rescuer: Rescuer
) -> None:
    request_id = await submit(store, step(), step("check", after=("draft",)))
    await raw.requests.update_one({"_id": request_id}, {"$set": {"steps.1.after": 5}})
    async with running(HandlerWorker(store, echo)):
        assert (await ended(store, await submit(store))).status is RequestStatus.COMPLETED
        await rescuer.sweep()
        assert await store.requests.status(request_id) is RequestStatus.FAILED
    check = await raw.contexts.find_one({"_id": f"{request_id}.check"})
    assert check is not None
    assert (check["status"], check["error"]["code"]) == ("failed", "undecodable_context")


async def test_a_dependent_without_a_list_of_what_it_waits_for_ends_alone(store: Store, raw: Raw) -> None:
    request_id = await submit(
        store, step(), step("check", after=("draft",)), step("other", after=("draft",)), step("lone")
    )
    await raw.contexts.update_one({"_id": f"{request_id}.check"}, {"$set": {"waiting_on": "draft"}})
    async with running(HandlerWorker(store, echo)):
        view = await ended(store, request_id)
    statuses = {context.step: context.status.value for context in view.contexts}
    assert statuses == {"draft": "completed", "check": "failed", "other": "completed", "lone": "completed"}
