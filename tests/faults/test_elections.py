"""Elections under load: the primary is killed, stopped, or steps down, and nothing is lost or done twice."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.counts import counts
from tests.faults.support.fleet import LEASE_SECONDS, api_role, worker_role
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.service_behaviours import stream
from tests.faults.support.steady_load import steady_load
from tests.faults.support.submissions import diamond, single
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)

#: Longer than every election, so no attempt ever has a reason to begin again.
LONG_LEASE = 60.0


async def killed(replica_set: ReplicaSet) -> None:
    primary = await replica_set.primary()
    replica_set.kill(primary)
    await replica_set.wait_for_primary(other_than=primary)


async def stopped(replica_set: ReplicaSet) -> None:
    """It wakes up when there is another one, and believes for a moment that it still is the primary."""
    primary = await replica_set.primary()
    primary.pause()
    await replica_set.wait_for_primary(other_than=primary)
    primary.resume()


async def stepped_down(replica_set: ReplicaSet) -> None:
    primary = await replica_set.step_down()
    await replica_set.wait_for_primary(other_than=primary)


Election = Callable[[ReplicaSet], Awaitable[None]]


@pytest.mark.parametrize(
    ("primary_is", "times", "lease"),
    [
        pytest.param(killed, 2, LEASE_SECONDS, marks=pytest.mark.exhaustive),
        pytest.param(stopped, 1, LEASE_SECONDS, marks=pytest.mark.exhaustive),
        (stepped_down, 1, LONG_LEASE),
    ],
)
async def test_elections_under_load_lose_nothing(
    primary_is: Election,
    times: int,
    lease: float,
    replica_set: ReplicaSet,
    fault_database: str,
    service: RecordingService,
    tmp_path: Path,
) -> None:
    service.program(stream("one ", "two ", "three", every=timedelta(milliseconds=150)), step="left")
    async with scenario(
        replica_set,
        fault_database,
        service,
        tmp_path,
        generation_lease_seconds=lease,
        generation_max_attempts=20,
    ) as run:
        await run.fleet.start(api_role(), worker_role(), worker_role())
        async with steady_load(run.fleet, diamond()) as load:
            for _ in range(times):
                await load.go_on()
                run.read_along(list(run.fleet.acknowledged)[-1])
                await primary_is(replica_set)
                await load.go_on()
                await replica_set.heal()
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        counted = counts(await run.history())
    if lease == LONG_LEASE:
        assert (counted.repeated_calls, counted.reclaims) == (0, 0), counted


@pytest.mark.exhaustive
async def test_a_stopped_secondary_holds_nothing_up(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(
        replica_set, fault_database, service, tmp_path, generation_lease_seconds=LONG_LEASE
    ) as run:
        await run.fleet.start(api_role(), worker_role())
        stopped_one, killed_later = await replica_set.secondaries()
        stopped_one.pause()
        async with steady_load(run.fleet, diamond()) as load:
            await load.go_on(10)
        # Nothing waits for it to come back.
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        stopped_one.resume()
        await replica_set.wait_until_whole()
        # Now a majority needs the one that was away.
        killed_later.kill()
        async with steady_load(run.fleet, diamond()) as load:
            await load.go_on(5)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        counted = counts(await run.history())
    assert (counted.repeated_calls, counted.reclaims) == (0, 0), counted


@pytest.mark.exhaustive
async def test_a_reader_misses_nothing_of_a_stream_in_which_the_primary_is_killed(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    pieces = [f"{number} " for number in range(30)]
    service.program(stream(*pieces, every=timedelta(milliseconds=120)))
    async with (
        scenario(replica_set, fault_database, service, tmp_path, generation_lease_seconds=LONG_LEASE) as run,
        AsyncMongoClient[dict[str, Any]](replica_set.uri) as client,
    ):
        await run.fleet.start(api_role(), worker_role())
        request_id = await run.fleet.submit(single())
        run.read_along(request_id)
        chunks = client[fault_database].events

        async def some_are_stored() -> bool | None:
            return await chunks.count_documents({}) >= 5

        are_stored: bool = await until(some_are_stored, seconds=60)
        assert are_stored
        await killed(replica_set)
        await replica_set.heal()
        await run.fleet.wait_until_ended()
        shown = await run.fleet.get(request_id)
    (reading,) = run.readings
    deltas = [event for event in reading.events if event.type == "output.delta"]
    # Through election and reconnections it is one attempt, every chunk once and in order.
    assert {event.attempt for event in deltas} == {1}
    assert [event.seq for event in deltas] == list(range(1, len(deltas) + 1))
    assert [event.type for event in reading.events if event.type != "output.delta"] == [
        "request.accepted",
        "step.pending",
        "step.running",
        "step.completed",
        "request.completed",
    ]
    assert shown["steps"][0]["output"] == {"text": "".join(pieces)}
