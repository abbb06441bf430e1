"""Workers that are stopped: by SIGSTOP past their lease, by SIGTERM in a deploy loop, by a second SIGTERM."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.counts import counts
from tests.faults.support.doomed import queue_of
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.history import Bounds
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.role_process import RoleProcess
from tests.faults.support.scenario import TAKEN_BACK_WITHIN, Scenario, scenario
from tests.faults.support.service_behaviours import twice
from tests.faults.support.steady_load import steady_load
from tests.faults.support.submissions import diamond, single
from tests.support.base_service_behaviours import hang
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

#: Longer than anything here takes.
LONG_LEASE = 30
#: Where workers stop by themselves; at these two with a context that they have not called for yet. The second
#: time its connection to the base service is open, and nothing would delay a call.
NOT_CALLED = ("claim.answered@2", "attempt.before_call@2")
#: By the second renewal the call is certainly on its way.
RENEWING = "renew.sending@2"
POINTS = (*NOT_CALLED, RENEWING, "chunk.sending", "outcome.sending")
#: What an attempt says that does nothing more.
DROPPED = "the lease was lost"


async def test_workers_that_wake_up_after_their_lease_do_nothing_more_for_it(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    have_dropped = asyncio.Event()
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        await run.fleet.start(api_role())
        for point in NOT_CALLED:
            await run.fleet.submit(single(queue=queue_of(point)))
        requests = {point: await run.fleet.submit(single(queue=queue_of(point))) for point in POINTS}
        service.program(twice("second", between=have_dropped))
        service.program(twice("first"), attempt=1)
        service.program(hang(), context=f"{requests[RENEWING]}.generation", attempt=1)
        for request_id in requests.values():
            run.read_along(request_id)
        stopping = (
            worker_role(queues=[queue_of(point)], fail_point=f"{point}=stop", generation_concurrency=1)
            for point in POINTS
        )
        sleepers = await run.fleet.start(*stopping, ready=False)
        await asyncio.gather(*(sleeper.until_stopped() for sleeper in sleepers))
        await run.fleet.start(worker_role(queues=[queue_of(point) for point in POINTS]))
        await service.wait_for_calls(len(POINTS), attempt=2)
        for sleeper in sleepers:
            sleeper.resume()
            await until_dropped(sleeper, 1)
        have_dropped.set()
        await assert_second_counts(run, requests.values())
        # A chunk that was on its way then is there, and readers were not to be shown it.
        late = counts(await run.history()).late_chunks
    assert late == 1
    called = {call.context_id.removesuffix(".generation") for call in service.calls if call.attempt == 1}
    assert {point for point in POINTS if requests[point] not in called} == set(NOT_CALLED)


async def test_a_worker_that_sleeps_through_the_answers_to_its_calls_does_not_store_them(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    others_call, has_dropped = asyncio.Event(), asyncio.Event()
    service.program(twice("second", between=has_dropped))
    service.program(twice("first", between=others_call), attempt=1)
    async with (
        scenario(replica_set, fault_database, service, tmp_path) as run,
        AsyncMongoClient[dict[str, Any]](replica_set.uri) as client,
    ):
        _, sleeper = await run.fleet.start(api_role(), worker_role())
        requests = await run.fleet.submit_many(single(), 2)
        for request_id in requests:
            run.read_along(request_id)
        await service.wait_for_calls(2)
        chunks = client[fault_database].events

        async def both_stream() -> bool | None:
            return await chunks.count_documents({}) == 2

        do_stream: bool = await until(both_stream, seconds=60)
        assert do_stream
        sleeper.pause()
        await run.fleet.start(worker_role())
        await service.wait_for_calls(2, attempt=2)
        # The rest of what it asked for lies in its sockets when it wakes up.
        others_call.set()
        await until(lambda: [call.end for call in service.calls[:2]] == ["answered"] * 2, seconds=60)
        sleeper.resume()
        await until_dropped(sleeper, 2)
        has_dropped.set()
        await assert_second_counts(run, requests)
        stored = (await run.history()).final_chunks
    assert {chunk["seq"] for chunk in stored if chunk["attempt"] == 1} == {1}


async def test_a_deploy_loop_uses_up_no_tries(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    # These end only by being handed back.
    service.program(hang(), step="left", attempt=1, times=4)
    async with scenario(
        replica_set,
        fault_database,
        service,
        tmp_path,
        generation_lease_seconds=LONG_LEASE,
        shutdown_grace_seconds=0.5,
    ) as run:
        _, *workers = await run.fleet.start(api_role(), worker_role(), worker_role())
        async with steady_load(run.fleet, diamond()) as load:
            await service.wait_for_calls(4, step="left")
            for _ in range(3):
                leaving = workers.pop(0)
                leaving.terminate()
                workers += await run.fleet.start(worker_role())
                assert await leaving.ended() == 0
                await load.go_on(3)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        history = await run.history()
    assert counts(history).releases >= 4
    for context in history.final_contexts.values():
        assert context["tries"] == 1, context
        assert {record["outcome"] for record in context["history"]} <= {"released", "completed"}


async def test_a_second_sigterm_ends_a_worker_at_once_and_its_leases_do_the_rest(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    service.program(hang(), attempt=1)
    async with scenario(replica_set, fault_database, service, tmp_path, shutdown_grace_seconds=600) as run:
        run.bounds = Bounds(taken_back_within=TAKEN_BACK_WITHIN)
        _, worker = await run.fleet.start(api_role(), worker_role())
        request_id = await run.fleet.submit(single())
        await service.wait_for_calls(1)
        worker.terminate()
        await worker.until_says("stopping after SIGTERM")
        worker.terminate()
        assert await worker.ended() == 128 + 15
        run.fleet.note_kill(worker)
        await run.fleet.start(worker_role())
        assert await run.fleet.wait_until_ended() == {request_id: "completed"}
        (context,) = (await run.history()).final_contexts.values()
    assert context["history"][0]["outcome"] == "lease_lost"


async def until_dropped(sleeper: RoleProcess, count: int) -> None:
    """Until it has said of so many attempts that they are not its own any more."""
    await until(lambda: sleeper.output().count(DROPPED) >= count, seconds=60)


async def assert_second_counts(run: Scenario, requests: Collection[str]) -> None:
    """All have completed, with what no first attempt said."""
    assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
    for request_id in requests:
        (step,) = (await run.fleet.get(request_id))["steps"]
        assert step["output"] == "second"
