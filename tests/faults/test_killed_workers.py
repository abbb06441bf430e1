"""
kill -9 of a worker at every point of its work: whatever it held is done by others, once, and nothing is lost.

Each doomed worker has a queue of its own, so that it gets to its point by its own work, and many of them run
at the same time. Those who take over begin when all of them are dead, so none of them is spared its point.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_service.telemetry.fail_point import FAIL_POINTS
from tests.faults.support.counts import counts
from tests.faults.support.doomed import (
    ALL_POINTS,
    CLAIMS_AND_CALLS,
    OUTPUT,
    RENEWAL,
    SETTLING,
    SETTLING_SOLE,
    UPKEEP,
    assert_killed,
    doomed,
    queue_of,
)
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.history import Bounds
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import TAKEN_BACK_WITHIN, scenario
from tests.faults.support.service_behaviours import stream
from tests.faults.support.submissions import diamond, single
from tests.support.base_service_behaviours import delayed

pytestmark = pytest.mark.timeout(300)

SLOW_STREAM = stream("one ", "two ", "three", every=timedelta(milliseconds=120))


def test_every_fail_point_has_its_scenario() -> None:
    assert {point.partition("@")[0] for point in ALL_POINTS} == set(FAIL_POINTS)


@pytest.mark.parametrize(
    ("points", "submission"),
    [
        pytest.param(CLAIMS_AND_CALLS, diamond, marks=pytest.mark.exhaustive),
        pytest.param(OUTPUT, diamond, marks=pytest.mark.exhaustive),
        pytest.param(SETTLING, diamond, marks=pytest.mark.exhaustive),
        (SETTLING_SOLE, single),
    ],
    ids=["claims", "output", "settling", "settling a lone step"],
)
async def test_a_worker_that_is_killed_in_the_middle_of_its_work_loses_nothing(
    points: tuple[str, ...],
    submission: Callable[..., Mapping[str, Any]],
    replica_set: ReplicaSet,
    fault_database: str,
    service: RecordingService,
    tmp_path: Path,
) -> None:
    service.program(SLOW_STREAM, step="top")
    service.program(SLOW_STREAM, step="bottom")
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        await run.fleet.start(api_role())
        for point in points:
            run.read_along(await run.fleet.submit(submission(queue=queue_of(point))))
        armed = await run.fleet.start(*(doomed(point) for point in points), ready=False)
        await assert_killed(run, dict(zip(points, armed, strict=True)))
        await run.fleet.start(worker_role(queues=[queue_of(point) for point in points]), ready=False)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}


@pytest.mark.exhaustive
async def test_a_worker_that_is_killed_at_a_renewal_loses_nothing(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    # As long as they live they have an attempt whose lease has to be renewed.
    all_dead = asyncio.Event()
    service.program(delayed(all_dead, echo), step="left")
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        await run.fleet.start(api_role())
        for point in RENEWAL:
            await run.fleet.submit(diamond(queue=queue_of(point)))
        armed = await run.fleet.start(*(doomed(point) for point in RENEWAL), ready=False)
        await assert_killed(run, dict(zip(RENEWAL, armed, strict=True)))
        all_dead.set()
        await run.fleet.start(worker_role(queues=[queue_of(point) for point in RENEWAL]), ready=False)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}


async def test_what_a_killed_worker_held_runs_elsewhere_within_lease_and_sweep(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    is_dead = asyncio.Event()
    service.program(delayed(is_dead, echo))
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        run.bounds = Bounds(
            concurrency={"generation": 20},
            taken_back_within=TAKEN_BACK_WITHIN,
            claimed_within=timedelta(seconds=10),
        )
        _, victim = await run.fleet.start(api_role(), worker_role())
        await run.fleet.submit_many(single(), 8)
        await service.wait_for_calls(8)
        await run.fleet.start(worker_role())
        run.fleet.kill(victim)
        is_dead.set()
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        assert counts(await run.history()).reclaims >= 8


@pytest.mark.exhaustive
async def test_a_process_that_is_killed_while_it_repairs_leaves_the_rest_to_the_next(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        api, victim = await run.fleet.start(api_role(), doomed("attempt.after_call", queue="default"))
        await run.fleet.submit(diamond())
        await assert_killed(run, {"attempt.after_call": victim})
        # The API repairs too; it is not to be faster than those who die of it.
        api.pause()
        for point in UPKEEP:
            (repairing,) = await run.fleet.start(doomed(point, queue="idle"), ready=False)
            await assert_killed(run, {point: repairing})
        api.resume()
        await run.fleet.start(worker_role(), ready=False)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}


@pytest.mark.exhaustive
async def test_a_worker_that_is_killed_while_it_hands_back_loses_nothing(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    all_dead = asyncio.Event()
    service.program(delayed(all_dead, echo))
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        api, stopping = await run.fleet.start(api_role(), doomed("release.sending", queue="stopping"))
        await run.fleet.submit(single(queue="stopping"))
        await service.wait_for_calls(1)
        stopping.terminate()
        await assert_killed(run, {"release.sending": stopping})
        await run.fleet.submit(single(queue="claiming"))
        # A claim that was applied and whose answer says so to nobody is handed back, not executed. It has to
        # be the first command of its kind from here on, so nobody else sends any.
        api.pause()
        lost = {"failCommands": ["findAndModify"], "appName": "agent_service"}
        unknown = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
        await replica_set.fail_point("failCommand", {"times": 1}, {**lost, **unknown})
        (claiming,) = await run.fleet.start(doomed("hand_back.sending", queue="claiming"), ready=False)
        await assert_killed(run, {"hand_back.sending": claiming})
        all_dead.set()
        api.resume()
        await run.fleet.start(worker_role(queues=["stopping", "claiming"]), ready=False)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
