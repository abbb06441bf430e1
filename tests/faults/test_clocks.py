"""Wrong clocks: of workers and of the API, which no time comes from, and of a new primary, which all does."""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.faults.support.counts import counts
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.history import Bounds, History
from tests.faults.support.member import Member
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.service_behaviours import after, fail
from tests.faults.support.submissions import diamond, single
from tests.support.base_service_behaviours import delayed
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)

HOUR = timedelta(hours=1)
#: So long that a worker may be stopped for an election and a sweep, and still has it then.
LONG_LEASE = timedelta(seconds=18)
#: Of the clocks of new primaries: every lease of the former one seems to have ended, or goes on for longer.
AHEAD, BEHIND = timedelta(seconds=40), timedelta(seconds=8)


async def test_workers_and_an_api_whose_clocks_are_an_hour_wrong_do_all_in_time(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    service.program(fail(503), step="top", attempt=1)
    # Longer than a lease, so each is renewed.
    service.program(after(timedelta(seconds=2.5), echo), step="left")
    async with scenario(replica_set, fault_database, service, tmp_path, generation_max_attempts=20) as run:
        ahead, behind = worker_role(clock_offset=HOUR), worker_role(clock_offset=-HOUR)
        slow_api, fast_api, *_ = await run.fleet.start(
            api_role(clock_offset=-HOUR), api_role(clock_offset=HOUR), ahead, behind
        )
        for number in range(4):
            api = slow_api if number % 2 else fast_api
            body = {**diamond(), "deadline_seconds": 600}
            submit = partial(run.fleet.try_to_submit, body, f"request-{number}", api=api)
            request_id: str = await until(submit, seconds=60)
            assert request_id
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        history = await run.history()
    for claimed, expires_at in leases_of_claims(history):
        assert abs(expires_at - claimed - timedelta(seconds=2)) < timedelta(seconds=30)


async def test_a_new_primary_whose_clock_is_ahead_takes_no_live_lease_away(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    may_end = asyncio.Event()
    service.program(delayed(may_end, echo))
    async with scenario(
        replica_set,
        fault_database,
        service,
        tmp_path,
        generation_lease_seconds=LONG_LEASE.total_seconds(),
    ) as run:
        run.bounds = Bounds(call_slack=None)
        (ahead, _) = await replica_set.secondaries()
        await replica_set.restart(ahead, offset=AHEAD)
        await replica_set.wait_until_whole()
        _, _, worker = await run.fleet.start(api_role(), worker_role(queues=["idle"]), worker_role())
        running = await run.fleet.submit_many(single(), 3)
        await service.wait_for_calls(3)
        # Nobody works on this one, so whoever sweeps ends it, after it has looked for ended leases.
        overdue = await run.fleet.submit({**single(queue="nobody"), "deadline_seconds": 30})
        worker.pause()
        await replica_set.make_primary(ahead)
        await run.fleet.wait_until_ended([overdue])
        worker.resume()
        await until_renewed(ahead, fault_database, len(running))
        may_end.set()
        assert set((await run.fleet.wait_until_ended(running)).values()) == {"completed"}
        assert counts(await run.history()).reclaims == 0


@pytest.mark.exhaustive
async def test_a_new_primary_whose_clock_is_behind_gives_back_what_a_killed_worker_held(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    is_dead = asyncio.Event()
    service.program(delayed(is_dead, echo))
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        run.bounds = Bounds(call_slack=None)
        (behind, _) = await replica_set.secondaries()
        await replica_set.restart(behind, offset=-BEHIND)
        await replica_set.wait_until_whole()
        _, victim = await run.fleet.start(api_role(), worker_role())
        await run.fleet.submit_many(single(), 3)
        await service.wait_for_calls(3)
        run.fleet.kill(victim)
        is_dead.set()
        await replica_set.make_primary(behind)
        await run.fleet.start(worker_role())
        # What was claimed before the election ends by the new clock; new work does not wait for that.
        fresh = await run.fleet.submit_many(single(), 3)
        await run.fleet.wait_until_ended(fresh)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        assert counts(await run.history()).reclaims >= 3


def leases_of_claims(history: History) -> list[tuple[datetime, datetime]]:
    """Of every claim, when it was written and when its lease was to end."""
    found = []
    for changes in history.changes_of("contexts").values():
        attempts = set()
        for change in changes:
            document = change.document
            if (
                document is not None
                and document["status"] == "running"
                and document["attempt"] not in attempts
            ):
                attempts.add(document["attempt"])
                found.append((change.at, document["lease"]["expires_at"]))
    assert found
    return found


async def until_renewed(primary: Member, database: str, count: int) -> None:
    """Until so many contexts run, each with a lease that ends later than now by the clock of this primary."""

    async def renewed() -> bool | None:
        async with primary.client() as client:
            now = (await client.admin.command("hello"))["localTime"]
            query = {"status": "running", "lease.expires_at": {"$gt": now}}
            return await client[database].contexts.count_documents(query) >= count

    are_renewed: bool = await until(renewed, seconds=60)
    assert are_renewed
