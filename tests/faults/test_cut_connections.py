"""A worker whose connection to MongoDB misbehaves while its attempts run and end; that of others does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from agent_service.store.operations import WRITE_LIMIT
from tests.faults.support.counts import counts
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.gate import Direction, Gate
from tests.faults.support.history import Bounds, Sample
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.role_process import RoleProcess
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import twice
from tests.faults.support.submissions import named, single
from tests.support.base_service_behaviours import answer, delayed

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

Fault = Callable[[Gate], Awaitable[None]]

BLACK_HOLE: Fault = Gate.black_hole
RESET: Fault = Gate.reset
REQUESTS_HELD: Fault = partial(Gate.half_open, blocked=Direction.TO_SERVER)
ANSWERS_HELD: Fault = partial(Gate.half_open, blocked=Direction.TO_CLIENT)
#: In the middle of a message, whatever is sent.
CUT_SHORT: Fault = partial(Gate.close_after, count=100, direction=Direction.TO_SERVER)
CUT_ANSWERS: Fault = partial(Gate.close_after, count=100, direction=Direction.TO_CLIENT)

LONG_LEASE = 60
#: Of one worker, while nothing goes through; the operations are the connections that it makes.
QUIET = Bounds(operations_per_second=20, log_lines_per_second=10)
MEASURED = timedelta(seconds=1.5)
#: Longer than any call to MongoDB is let wait, so that what was not answered has to be repeated.
OUTLASTS = WRITE_LIMIT + timedelta(seconds=3)
#: Seconds that each piece is late, each way.
SLOW_SECONDS = 0.5
#: What a worker says that had to drop an attempt.
LOST = "the lease was lost"


async def deliver(gate: Gate) -> None:
    """It was only late."""
    await gate.open()


async def lose(gate: Gate) -> None:
    """What was on its way never arrives."""
    gate.reset_connections()
    await gate.open()


@pytest.mark.parametrize(
    "faults",
    [
        {
            "black hole": (BLACK_HOLE, deliver),
            "answers late": (ANSWERS_HELD, deliver),
            "requests lost": (REQUESTS_HELD, lose),
            "answers lost": (ANSWERS_HELD, lose),
        },
        {"reset": (RESET, deliver), "cut short": (CUT_SHORT, deliver), "answers cut": (CUT_ANSWERS, deliver)},
    ],
    ids=["held back", "broken"],
)
async def test_a_fault_that_is_shorter_than_the_lease_repeats_and_loses_nothing(
    faults: dict[str, tuple[Fault, Fault]],
    replica_set: ReplicaSet,
    fault_database: str,
    service: RecordingService,
    tmp_path: Path,
) -> None:
    may_end = asyncio.Event()
    service.program(twice("it", between=may_end), step="streams")
    service.program(delayed(until=may_end, then=answer({"output": "it"})), step="answers")
    queues = {name: name.replace(" ", "_") for name in faults}
    async with (
        AsyncExitStack() as gates,
        scenario(replica_set, fault_database, service, tmp_path, generation_lease_seconds=LONG_LEASE) as run,
    ):
        run.bounds = QUIET
        gate_of = {name: await gates.enter_async_context(gate_to_primary(replica_set)) for name in faults}
        _, *workers = await run.fleet.start(
            api_role(),
            *(worker_role(queues=[queues[name]], mongodb_uri=gate_of[name].mongodb_uri) for name in faults),
        )
        for step in ("streams", "streams", "answers"):
            requests = [await run.fleet.submit(named(step, queue=queue)) for queue in queues.values()]
            run.read_along(requests[0])
        await service.wait_for_calls(3 * len(faults))
        for name, (fault, _) in faults.items():
            await fault(gate_of[name])
        may_end.set()
        # One for each that has to be claimed, too.
        for queue in queues.values():
            await run.fleet.submit(named("echoes", queue=queue))
        await asyncio.gather(
            *(
                measure(run, gate_of[name], worker, name, OUTLASTS)
                for name, worker in zip(faults, workers, strict=True)
            )
        )
        for name, (_, heal) in faults.items():
            await heal(gate_of[name])
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        counted = counts(await run.history())
        for worker in workers:
            assert worker.is_running
            assert LOST not in worker.output()
    assert (counted.calls, counted.repeated_calls, counted.reclaims) == (4 * len(faults), 0, 0), counted


async def test_a_slow_connection_makes_work_slow_and_nothing_else(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    service.program(twice("it"))
    async with (
        gate_to_primary(replica_set) as gate,
        scenario(replica_set, fault_database, service, tmp_path, generation_lease_seconds=LONG_LEASE) as run,
    ):
        _, worker = await run.fleet.start(api_role(), worker_role(mongodb_uri=gate.mongodb_uri))
        await gate.slow(delay=SLOW_SECONDS)
        requests = await run.fleet.submit_many(single(), 3)
        run.read_along(requests[0])
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        counted = counts(await run.history())
        assert worker.is_running
        assert LOST not in worker.output()
    assert (counted.calls, counted.repeated_calls, counted.reclaims) == (3, 0, 0), counted


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
            await measure(run, gate, cut_off, name, MEASURED)
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


async def measure(run: Scenario, gate: Gate, worker: RoleProcess, what: str, length: timedelta) -> None:
    """Let it be broken for so long, and count what a worker logs and how often it connects meanwhile."""
    before = gate.connections
    lines = await worker.log_lines_per_second(length)
    connections = (gate.connections - before) / length.total_seconds()
    run.samples.append(Sample(what=what, at=0, operations=connections, log_lines=lines))
