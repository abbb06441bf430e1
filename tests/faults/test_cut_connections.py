"""A worker whose connection to MongoDB misbehaves while its attempts run and end; that of others does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.faults.support.counts import counts
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.gate import Direction, Gate
from tests.faults.support.history import Bounds, Sample
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.role_process import RoleProcess
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import twice
from tests.faults.support.submissions import single

pytestmark = pytest.mark.timeout(300)

Fault = Callable[[Gate], Awaitable[None]]

BLACK_HOLE: Fault = Gate.black_hole
RESET: Fault = Gate.reset
REQUESTS_HELD: Fault = partial(Gate.half_open, blocked=Direction.TO_SERVER)
ANSWERS_HELD: Fault = partial(Gate.half_open, blocked=Direction.TO_CLIENT)
#: In the middle of a message, whatever is sent.
CUT_SHORT: Fault = partial(Gate.close_after, count=100, direction=Direction.TO_SERVER)
CUT_ANSWERS: Fault = partial(Gate.close_after, count=100, direction=Direction.TO_CLIENT)
SLOW: Fault = partial(Gate.slow, delay=0.3)

LONG_LEASE = 60
#: Of one worker, while nothing goes through; the operations are the connections that it makes.
QUIET = Bounds(operations_per_second=20, log_lines_per_second=10)
MEASURED = timedelta(seconds=1.5)


async def deliver(gate: Gate) -> None:
    """It was only late."""
    await gate.open()


async def lose(gate: Gate) -> None:
    """What was on its way never arrives."""
    gate.reset_connections()
    await gate.open()


@pytest.mark.parametrize(
    ("faults", "heal"),
    [
        ({"black hole": BLACK_HOLE, "answers held back": ANSWERS_HELD, "slow": SLOW}, deliver),
        ({"black hole": BLACK_HOLE, "requests lost": REQUESTS_HELD, "answers lost": ANSWERS_HELD}, lose),
        ({"reset": RESET, "cut short": CUT_SHORT, "answers cut": CUT_ANSWERS}, deliver),
    ],
    ids=["late", "lost", "broken"],
)
async def test_a_fault_that_is_shorter_than_the_lease_repeats_and_loses_nothing(
    faults: dict[str, Fault],
    heal: Fault,
    replica_set: ReplicaSet,
    fault_database: str,
    service: RecordingService,
    tmp_path: Path,
) -> None:
    async with (
        gate_to_primary(replica_set) as gate,
        scenario(replica_set, fault_database, service, tmp_path, generation_lease_seconds=LONG_LEASE) as run,
    ):
        run.bounds = QUIET
        _, worker = await run.fleet.start(api_role(), worker_role(mongodb_uri=gate.mongodb_uri))
        for name, fault in faults.items():
            may_end, before = asyncio.Event(), service.count
            service.program(twice("it", between=may_end))
            requests = await run.fleet.submit_many(single(), 3)
            run.read_along(requests[0])
            await service.wait_for_calls(before + 3)
            await fault(gate)
            may_end.set()
            # One that has to be claimed, too.
            requests.append(await run.fleet.submit(single()))
            await measure(run, gate, worker, name)
            await heal(gate)
            assert set((await run.fleet.wait_until_ended(requests)).values()) == {"completed"}, name
        counted = counts(await run.history())
        assert worker.is_running
    assert (counted.calls, counted.repeated_calls, counted.reclaims) == (4 * len(faults), 0, 0), counted


async def test_a_fault_that_is_longer_than_the_lease_gives_the_work_to_somebody_else(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    never = asyncio.Event()
    faults = {"black hole": BLACK_HOLE, "answers held back": ANSWERS_HELD, "reset": RESET}
    async with (
        gate_to_primary(replica_set) as gate,
        # Nothing but the end of the lease ends a call in time.
        scenario(replica_set, fault_database, service, tmp_path, generation_timeout=600) as run,
    ):
        run.bounds = QUIET
        _, cut_off = await run.fleet.start(api_role(), worker_role(mongodb_uri=gate.mongodb_uri))
        for name, fault in faults.items():
            service.program(twice("cut off", between=never), times=2)
            before = service.count
            requests = await run.fleet.submit_many(single(), 2)
            # It works again after the fault before, without having been started again.
            await service.wait_for_calls(before + 2)
            await fault(gate)
            (other,) = await run.fleet.start(worker_role())
            await measure(run, gate, cut_off, name)
            assert set((await run.fleet.wait_until_ended(requests)).values()) == {"completed"}, name
            # What it called for is stopped without anybody telling it.
            await service.wait_until_idle()
            other.terminate()
            await other.ended()
            await gate.open()
        assert cut_off.is_running
    assert [call.end for call in service.calls].count("closed") == 2 * len(faults)


@asynccontextmanager
async def gate_to_primary(replica_set: ReplicaSet) -> AsyncIterator[Gate]:
    """A gate whose `mongodb_uri` leads to the primary of now and to no other member."""
    async with Gate((await replica_set.primary()).port) as gate:
        yield gate


async def measure(run: Scenario, gate: Gate, worker: RoleProcess, what: str) -> None:
    """Let it be broken for a while, and count what a worker logs and how often it connects meanwhile."""
    before = gate.connections
    lines = await worker.log_lines_per_second(MEASURED)
    connections = (gate.connections - before) / MEASURED.total_seconds()
    run.samples.append(Sample(what=what, at=0, operations=connections, log_lines=lines))
