"""All of MongoDB is killed under real processes: they live on, say so, and go on when it is back."""

import asyncio
import uuid
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from tests.faults.support.fleet import Fleet, api_role, worker_role
from tests.faults.support.history import Bounds, Sample
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.submissions import diamond
from tests.support.base_service_behaviours import delayed

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

#: Measured of each process after its client was told of the outage.
MEASURED = timedelta(seconds=2)


async def test_processes_outlive_a_set_that_is_killed_as_a_whole_and_drain_without_a_restart(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    may_end = asyncio.Event()
    service.program(delayed(may_end, echo), step="left")
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        run.bounds = Bounds(log_lines_per_second=10)
        processes = await run.fleet.start(api_role(), worker_role(), worker_role())
        await run.fleet.submit_many(diamond(), 4)
        await service.wait_for_calls(4, step="left")
        for member in replica_set.members:
            replica_set.kill(member)
        may_end.set()
        lost = uuid.uuid4().hex
        await assert_refused(run.fleet, lost)
        for process in processes:
            lines = await process.log_lines_per_second(MEASURED)
            run.samples.append(Sample(what=process.name, at=0, operations=0, log_lines=lines))
        assert await run.fleet.try_to_submit(diamond(), lost) is None
        await replica_set.heal()
        await run.fleet.submit(diamond(), lost)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        assert all(process.is_running for process in processes)
        history = await run.history()
    assert len(history.final_requests) == 5


async def assert_refused(fleet: Fleet, key: str) -> None:
    """Whoever asks is told when to ask again, be it for a new request or for an old one."""
    headers = {"Idempotency-Key": key}
    old = next(iter(fleet.acknowledged))
    async with httpx2.AsyncClient(base_url=fleet.api.url, timeout=30, trust_env=False) as client:
        answers = await asyncio.gather(
            client.post("/v1/requests", json=diamond(), headers=headers),
            client.get(f"/v1/requests/{old}"),
            client.get("/readyz"),
        )
        assert [answer.status_code for answer in answers] == [503] * 3
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert (await client.get("/healthz")).status_code == 200
