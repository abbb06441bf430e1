"""kill -9 of the one worker that tries a broken service: another one tries it, and it is called again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.doomed import PROBING, assert_killed
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.service_behaviours import fail
from tests.faults.support.submissions import single
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]
#: More calls than a breaker needs to judge by.
REQUESTS = 25


async def test_a_worker_that_is_killed_while_it_probes_does_not_leave_the_service_alone_for_ever(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    kinds = [point.replace(".", "_") for point in PROBING]
    for kind in kinds:
        service.program(fail(503), service=kind)
    async with (
        scenario(replica_set, fault_database, service, tmp_path, services=kinds) as run,
        AsyncMongoClient[dict[str, Any]](replica_set.uri) as client,
    ):
        armed = [
            worker_role(kind, fail_point=f"{point}=kill") for kind, point in zip(kinds, PROBING, strict=True)
        ]
        _, *doomed = await run.fleet.start(api_role(), *armed)
        await asyncio.gather(*(run.fleet.submit_many(single(service=kind), REQUESTS) for kind in kinds))

        breakers = client[fault_database].services

        async def all_are_open() -> bool | None:
            return await breakers.count_documents({"breaker.state": "open"}) == len(kinds)

        are_open: bool = await until(all_are_open, seconds=60)
        assert are_open
        service.program(echo)
        await assert_killed(run, dict(zip(PROBING, doomed, strict=True)))
        await run.fleet.start(*(worker_role(kind) for kind in kinds), ready=False)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
