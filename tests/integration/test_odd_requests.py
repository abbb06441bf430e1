"""Requests that cannot be decoded, or that lack what was submitted, fail with all of their contexts."""

from datetime import timedelta
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.service_state import Breaker, BreakerState, Hold
from agent_service.replanner import Replanner
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from agent_service.store.contexts import THERE_WITHIN
from agent_service.store.documents import SCHEMA
from tests.support import hand_worker
from tests.support.rescuers import a_replanner, pass_deadlines
from tests.support.submissions import planned
from tests.support.worker_tools import Raw, step, submit

CHAIN = (step(), step("check", after=("draft",)))


async def stored(raw: Raw, request_id: str) -> tuple[str, list[tuple[str, str | None]]]:
    """The status of a request, and those of its contexts with the codes of their errors."""
    request = await raw.requests.find_one({"_id": request_id}) or {}
    contexts = await raw.contexts.find(
        {"request_id": request_id}, sort=[("created_at", 1), ("_id", -1)]
    ).to_list()
    return request["status"], [(each["status"], (each["error"] or {}).get("code")) for each in contexts]


@pytest.mark.parametrize(
    "change",
    [{"$set": {"steps": []}}, {"$pull": {"steps": {"name": "draft"}}}, {"$set": {"steps.0.after": "draft"}}],
    ids=["no steps", "a step taken away", "an odd step"],
)
async def test_a_request_whose_steps_were_changed_fails_with_all_of_its_contexts(
    store: Store, raw: Raw, change: dict[str, Any]
) -> None:
    contexts, request_id = ContextManager(store), await submit(store, *CHAIN)
    (draft,) = await hand_worker.claim(contexts, "generation")
    await raw.requests.update_one({"_id": request_id}, change)
    await hand_worker.end(contexts, draft, hand_worker.success(contexts, draft))
    ends = [("completed", None), ("failed", "undecodable_context")]
    assert await stored(raw, request_id) == ("failed", ends)
    unfinished = {"$or": [{"settled": False, "status": "completed"}, {"expires_at": None}]}
    assert await raw.contexts.count_documents({"request_id": request_id, **unfinished}) == 0
    # What ended with it has nothing to be followed by.
    await contexts.settle([f"{request_id}.check"])
    assert await raw.contexts.count_documents({"settled": False}) == 0
    assert (await stored(raw, request_id))[0] == "failed"


async def test_a_request_that_cannot_be_completed_because_it_is_odd_ends_at_its_deadline(
    store: Store, raw: Raw, rescuer: Rescuer
) -> None:
    request_id = await submit(store, *CHAIN)
    await raw.contexts.delete_one({"_id": f"{request_id}.check"})
    await raw.requests.update_one({"_id": request_id}, {"$unset": {"fingerprint": ""}})
    await pass_deadlines(raw)
    await rescuer.sweep()
    assert await stored(raw, request_id) == ("failed", [("failed", "undecodable_context")])


@pytest.mark.parametrize("way", ["settled", "overdue", "unplanned"])
async def test_an_odd_request_does_not_end_while_its_planner_may_insert_more(
    store: Store, raw: Raw, rescuer: Rescuer, replanner: Replanner, way: str
) -> None:
    contexts, request_id = ContextManager(store), await submit(store, *CHAIN)
    (draft,) = await hand_worker.claim(contexts, "generation")
    odd = {"steps.0.after": "odd", "planned": False}
    await raw.requests.update_one({"_id": request_id}, {"$set": odd})
    await hand_worker.end(contexts, draft, hand_worker.success(contexts, draft))
    if way == "overdue":
        await raw.requests.update_one({"_id": request_id}, {"$set": {"deadline_at": draft.created_at}})
    for _ in range(2):
        await rescuer.sweep()
        await replanner.look()
        assert (await stored(raw, request_id))[0] == "accepted"
    # Half a minute later it may not, or it has said that it is done.
    later = {"planned": True} if way == "settled" else {"created_at": store.clock.now() - 2 * THERE_WITHIN}
    await raw.requests.update_one({"_id": request_id}, {"$set": later})
    await (a_replanner(store).look() if way == "unplanned" else rescuer.sweep())
    ends = [("completed", None), ("failed", "undecodable_context")]
    assert await stored(raw, request_id) == ("failed", ends)
    await rescuer.sweep()
    assert await raw.contexts.count_documents({"settled": False}) == 0


async def test_a_running_context_of_an_odd_request_is_told_to_stop_and_ends_it(
    store: Store, raw: Raw, rescuer: Rescuer
) -> None:
    contexts, request_id = ContextManager(store), await submit(store, step(), step("other"))
    draft, _ = await hand_worker.claim(contexts, "generation", limit=2)
    other = await raw.contexts.find_one({"_id": f"{request_id}.other"}) or {}
    await raw.requests.update_one({"_id": request_id}, {"$set": {"steps": "odd"}})
    await pass_deadlines(raw)
    await rescuer.sweep()
    assert (await stored(raw, request_id))[0] == "accepted"
    states = await contexts.leases([draft.id, other["_id"]], timedelta(seconds=30))
    assert [state.deadline_passed for state in states.values()] == [True, True]


async def test_what_a_later_version_wrote_is_left_to_that_one(
    store: Store, raw: Raw, rescuer: Rescuer
) -> None:
    request_id = await submit(store, *CHAIN)
    later = {"$set": {"schema": SCHEMA + 1, "steps": {"of": "another kind"}}}
    await raw.requests.update_one({"_id": request_id}, later)
    await raw.contexts.update_many({}, {"$set": {"schema": SCHEMA + 1, "waiting_on": {"odd": 1}}})
    await pass_deadlines(raw)
    await rescuer.sweep()
    assert await stored(raw, request_id) == ("accepted", [("pending", None), ("blocked", None)])


@pytest.mark.parametrize("trace", ["odd", {"traceparent": 7}])
async def test_an_odd_field_of_a_caller_does_not_keep_a_request_with_a_callback_from_being_settled(
    store: Store, raw: Raw, trace: object
) -> None:
    contexts, request_id = ContextManager(store), await submit(store)
    changed = {"callback": {"url": "https://example.com/"}, "trace": trace}
    await raw.requests.update_one({"_id": request_id}, {"$set": changed})
    await raw.contexts.update_one({"request_id": request_id}, {"$set": {"sole": False}})
    (draft,) = await hand_worker.claim(contexts, "generation")
    await hand_worker.end(contexts, draft, hand_worker.success(contexts, draft))
    assert await stored(raw, request_id) == ("completed", [("completed", None)])
    assert await raw.contexts.count_documents({"settled": False}) == 0


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_more_contexts_that_cannot_be_counted_than_are_looked_at_keep_no_other_from_being_claimed(
    store: Store, raw: Raw, concurrency: int
) -> None:
    for _ in range(50):
        await submit(store)
    await raw.contexts.update_many({}, {"$set": {"tries": "1"}})
    good = await submit(store)
    contexts = ContextManager(store)
    claimed: list[Context] = []
    for _ in range(60):
        claimed = await hand_worker.claim(contexts, "generation", limit=concurrency)
        if claimed:
            break
    assert [context.request_id for context in claimed] == [good]
    assert await raw.contexts.count_documents({"status": ContextStatus.FAILED.value}) == 50


async def test_as_much_as_can_be_read_of_a_spoilt_service_stays(store: Store, raw: Raw) -> None:
    services, now = store.services, store.clock.now()
    await services.hold("s", Hold(name="manual", reason="why", since=now, until=None))
    state = await services.read("s")
    opened = Breaker(state=BreakerState.OPEN, since=now, until=now, opened=2, reason="down")
    assert await services.move(state, opened)
    spoilt = {"holds.manual.reason": 5, "breaker.reason": 7, "breaker.opened": 2.0}
    await raw.services.update_one(
        {"_id": "s"}, {"$set": spoilt, "$unset": {"epoch": "", "holds.manual.since": ""}}
    )
    state = await services.read("s")
    assert state.holds["manual"].until is None
    assert (state.breaker.state, state.breaker.until) == (BreakerState.OPEN, opened.until)
    # It can be changed again.
    assert await services.move(await services.read("s"), Breaker())
    assert (await services.read("s")).breaker.state is BreakerState.CLOSED


async def test_a_request_from_before_the_first_year_keeps_no_other_from_being_planned(
    store: Store, raw: Raw, replanner: Replanner
) -> None:
    odd, healthy = await submit(store, *CHAIN), await submit(store, *CHAIN)
    await planned(store)
    await raw.contexts.delete_many({})
    await raw.requests.update_many({}, {"$set": {"planned": False}})
    await raw.requests.update_one({"_id": odd}, {"$set": {"created_at": DatetimeMS(-(10**15))}})
    await replanner.look()
    assert len((await stored(raw, healthy))[1]) == 2
