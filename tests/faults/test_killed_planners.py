"""kill -9 of a process while it takes, plans or cancels a request: whoever comes next finishes it, once."""

import asyncio
import time
from pathlib import Path

import pytest

from agent_service.store.contexts import SENT_WITHIN
from tests.faults.support.doomed import CANCELLING, PLANNING, assert_killed, doomed
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.submissions import diamond
from tests.support.base_service_behaviours import hang
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]


async def test_what_an_api_that_is_killed_has_acknowledged_is_planned_and_done_by_others(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        armed = await run.fleet.start(*(api_role(fail_point=f"{point}=kill") for point in PLANNING))
        for point, api in zip(PLANNING, armed, strict=True):
            await run.fleet.try_to_submit(diamond(), key=f"{point}-again", api=api)
            await assert_killed(run, {point: api})
        # Nobody asks again: where the answer was lost, its work is done all the same.
        await run.fleet.start(api_role(), worker_role())
        await run.fleet.wait_until_drained()
        for point in PLANNING:
            await run.fleet.submit(diamond(), key=f"{point}-again")
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        await run.fleet.wait_until_drained()
        history = await run.history()
    assert {request["status"] for request in history.final_requests.values()} == {"completed"}
    assert len(history.final_requests) == len(PLANNING), "one key made two requests"


async def test_a_process_that_is_killed_while_it_plans_again_leaves_it_to_the_next(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        (api,) = await run.fleet.start(api_role(fail_point="request.inserted=kill"))
        await run.fleet.try_to_submit(diamond(), key="once")
        await assert_killed(run, {"request.inserted": api})
        for point in ("contexts.inserted", "request.planned"):
            (planning,) = await run.fleet.start(doomed(point, queue="idle"), ready=False)
            await assert_killed(run, {point: planning})
        await run.fleet.start(worker_role())
        await run.fleet.wait_until_drained()
        history = await run.history()
    assert [request["status"] for request in history.final_requests.values()] == ["completed"]


async def test_a_planner_that_wakes_up_late_leaves_it_to_others_and_what_they_planned_stays(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        late, api, _ = await run.fleet.start(
            api_role(fail_point="request.inserted=stop"), api_role(), worker_role()
        )
        submitting = asyncio.create_task(run.fleet.try_to_submit(diamond(), key="late", api=late))
        await late.until_stopped()
        until_late = time.monotonic() + SENT_WITHIN.total_seconds()
        # It sleeps behind its request: others plan that and do it.
        await run.fleet.wait_until_drained()
        assert len((await run.history()).final_requests) == 1
        await until(lambda: time.monotonic() > until_late)
        late.resume()
        await late.until_says("left to the rescuer")
        await submitting
        assert await run.fleet.try_to_submit(diamond(), key="late", api=api) is not None
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        history = await run.history()
    assert [request["status"] for request in history.final_requests.values()] == ["completed"]


async def test_a_cancellation_is_seen_to_although_nobody_who_was_asked_lives(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    service.program(hang(), step="left")
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        armed = [api_role(fail_point=f"{point}=kill") for point in CANCELLING]
        _, *apis = await run.fleet.start(worker_role(), *armed)
        request_ids = [await run.fleet.submit(diamond()) for _ in CANCELLING]
        await service.wait_for_calls(len(CANCELLING), step="left")
        for point, api, request_id in zip(CANCELLING, apis, request_ids, strict=True):
            assert await run.fleet.try_to_cancel(request_id, api=api) is None
            await assert_killed(run, {point: api})
        assert set((await run.fleet.wait_until_ended()).values()) == {"cancelled"}
    assert {call.end for call in service.calls if call.context_id.endswith(".left")} == {"closed"}
