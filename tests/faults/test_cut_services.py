"""
A gate between the workers and a base service that swallows, delays, resets or refuses: what runs then ends
in time, and once it is healed everything completes.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.gate import Direction, Gate
from tests.faults.support.history import Bounds, Document, History
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import stream
from tests.faults.support.submissions import named
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

#: Each is a service of its own, behind a gate of its own, with a worker of its own.
SWALLOWING = ("black_hole", "deaf", "dumb")
BREAKING = ("reset", "refused")
CUTS = (*SWALLOWING, *BREAKING, "slow")
#: Seconds that a call may take.
TIMEOUT = 4
SLOTS = 4
EACH = 6
#: More than enough for every call that may fail until a gate is open again.
TRIES = 50
#: What an attempt may end with whose call was cut: it was in flight, or it found nobody.
CODES = {
    "black_hole": {"timeout"},
    "deaf": {"timeout"},
    "dumb": {"timeout"},
    "reset": {"connection_lost", "connect_failed"},
    "refused": {"connect_failed", "connection_lost"},
    "slow": {"timeout"},
}
#: By so much the time that a worker writes may differ from that of this process.
CLOCKS_DIFFER = timedelta(milliseconds=100)
#: How long an attempt may take whose call never ends by itself, on a busy machine.
LONGEST_ATTEMPT = timedelta(seconds=TIMEOUT + 8)


async def cut(kind: str, gate: Gate) -> None:
    match kind:
        case "black_hole":
            await gate.black_hole()
        case "deaf":
            await gate.half_open(Direction.TO_SERVER)
        case "dumb":
            await gate.half_open(Direction.TO_CLIENT)
        case "reset":
            await gate.reset()
        case "refused":
            await gate.refuse()
            gate.close_connections()
        case "slow":
            # The head of an answer alone takes longer than a call may.
            await gate.slow(bytes_per_second=10, directions=frozenset({Direction.TO_CLIENT}))


async def heal(gate: Gate) -> None:
    # What was on its way is lost; otherwise calls would arrive now whose attempts are long over.
    gate.reset_connections()
    await gate.open()


@asynccontextmanager
async def gates_to(service: RecordingService) -> AsyncIterator[Mapping[str, Gate]]:
    async with AsyncExitStack() as stack:
        yield {kind: await stack.enter_async_context(Gate(service.port)) for kind in CUTS}


def ended_with_error(history: History, kind: str) -> list[Document]:
    """Every attempt of this service that failed; what was handed back did not even begin."""
    return [
        record
        for context in history.final_contexts.values()
        if context["service"] == kind
        for record in context["history"]
        if record["error"] is not None
    ]


async def until_each_has_failed(run: Scenario) -> None:
    async def seen() -> bool:
        history = await run.history()
        return all(len(ended_with_error(history, kind)) >= SLOTS for kind in CUTS)

    is_seen: bool = await until(seen, seconds=60)
    assert is_seen


async def test_what_is_cut_off_from_its_service_ends_in_time_and_completes_when_it_is_healed(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    service.program(stream("one ", "two ", "three ", every=timedelta(milliseconds=200)))
    async with gates_to(service) as gates:
        addresses = {f"{kind}_base_url": service.url(kind, port=gate.port) for kind, gate in gates.items()}
        settings = {
            f"{kind}_{name}": value
            for kind in CUTS
            for name, value in {
                "timeout": TIMEOUT,
                "concurrency": SLOTS,
                "max_attempts": TRIES,
                "lease_seconds": 15,
            }.items()
        }
        variables: dict[str, Any] = {**addresses, **settings}
        async with scenario(
            replica_set, fault_database, service, tmp_path, services=CUTS, drain_seconds=120, **variables
        ) as run:
            run.bounds = Bounds(concurrency=dict.fromkeys(CUTS, SLOTS))
            await run.fleet.start(api_role(), *(worker_role(kind) for kind in CUTS))
            for kind in CUTS:
                await run.fleet.submit_many(named("whole", service=kind), EACH)
            await service.wait_for_calls(len(CUTS) * SLOTS)
            await asyncio.gather(*(cut(kind, gate) for kind, gate in gates.items()))
            for kind in CUTS:
                await run.fleet.submit_many(named("cut", service=kind), EACH)
            await until_each_has_failed(run)
            healed = datetime.now(UTC)
            await asyncio.gather(*(heal(gate) for gate in gates.values()))
            assert set((await run.fleet.wait_until_ended(seconds=120)).values()) == {"completed"}
            history = await run.history()
            for kind in CUTS:
                # Healing resets what is still cut off then.
                records = [one for one in ended_with_error(history, kind) if one["ended_at"] < healed]
                before = [record for record in records if record["ended_at"] < healed - CLOCKS_DIFFER]
                assert {record["error"]["code"] for record in before} <= CODES[kind], kind
                longest = max(record["ended_at"] - record["started_at"] for record in records)
                assert longest < LONGEST_ATTEMPT, kind
