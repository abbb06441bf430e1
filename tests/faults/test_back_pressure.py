"""
Back-pressure: a service that asks to be left alone, is down, or is paused by an operator is called by nobody
in the whole fleet, what waits for it loses no try, and everything is done afterwards.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.gate import Gate
from tests.faults.support.history import Bounds, Document
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import fail, too_many
from tests.faults.support.submissions import named, single
from tests.support.base_service_behaviours import RecordedCall, Reply, delayed
from tests.support.commands import run_module
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

SLOTS = 4
WORKERS = 3
#: Calls that may be in flight in the whole fleet.
FLEET = WORKERS * SLOTS
HOLD = timedelta(seconds=5)
#: Between the clock of the base service and that of MongoDB's server, on one machine.
CLOCKS = timedelta(seconds=0.1)
#: No lease ends here, so whatever is called again was not lost.
LEASE = 15


async def busy_until(call: RecordedCall, reply: Reply) -> None:
    """429 with a date; such dates have whole seconds, and name the one after."""
    until_then = datetime.now(UTC) + HOLD + timedelta(seconds=1)
    await too_many(format_datetime(until_then, usegmt=True))(call, reply)


def settings_of(services: tuple[str, ...], **settings: object) -> dict[str, Any]:
    """These settings for each of the services."""
    return {f"{service}_{name}": value for service in services for name, value in settings.items()}


async def state_of(run: Scenario, service: str) -> Document:
    """What MongoDB says of a service."""
    async with AsyncMongoClient[dict[str, Any]](run.fleet.uri, tz_aware=True) as client:
        return await client[run.fleet.database].services.find_one({"_id": service}) or {}


async def breaker_is(run: Scenario, service: str, state: str, *, opened: int = 1) -> Document:
    """The service once its breaker is in this state for at least this time in a row."""

    async def found() -> Document | None:
        document = await state_of(run, service)
        breaker = document.get("breaker", {})
        return document if breaker.get("state") == state and breaker.get("opened", 0) >= opened else None

    return await until(found, seconds=60)


async def test_a_storm_of_refusals_is_one_pause_of_the_whole_fleet_and_costs_no_try(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    kinds = ("seconds", "date")
    service.program(too_many(HOLD.seconds), service="seconds")
    service.program(busy_until, service="date")
    # With a single try, whatever counts one is seen.
    variables = settings_of(kinds, max_attempts=1, concurrency=SLOTS, lease_seconds=LEASE)
    async with scenario(replica_set, fault_database, service, tmp_path, services=kinds, **variables) as run:
        run.bounds = Bounds(concurrency=dict.fromkeys(kinds, FLEET))
        await run.fleet.start(api_role(), *(worker_role(kind) for kind in kinds for _ in range(WORKERS)))
        await asyncio.gather(*(run.fleet.submit_many(single(service=kind), 5 * FLEET) for kind in kinds))

        async def held() -> bool:
            return all([(await state_of(run, kind)).get("holds", {}).get("retry_after") for kind in kinds])

        is_held: bool = await until(held, seconds=60)
        assert is_held
        # From here on the service would do the work, if anybody asked.
        service.program(echo)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        for kind in kinds:
            hold = (await state_of(run, kind))["holds"]["retry_after"]["until"]
            began = [
                datetime.fromtimestamp(call.started, UTC) for call in service.calls if call.service == kind
            ]
            assert hold - min(began) >= HOLD - CLOCKS, kind
            # Nobody had heard of it yet.
            before = [at for at in began if at < hold - CLOCKS]
            assert 1 <= len(before) <= FLEET, kind
        contexts = (await run.history()).final_contexts.values()
        assert {context["tries"] for context in contexts} == {1}


async def check_tried_by_one(run: Scenario, service: RecordingService) -> None:
    """`down` answers, and always with an error, until its probe succeeds."""
    requests = await run.fleet.submit_many(single(service="down"), 10 * FLEET)
    broken = await breaker_is(run, "down", "open")
    # By then everybody has heard of it, and nobody tries it yet.
    quiet = broken["breaker"]["until"] - timedelta(seconds=2)
    await until(lambda: datetime.now(UTC) >= quiet, seconds=60)
    failed = calls_of(service, "down")
    # Each process stops by itself at the twentieth, whatever the others have to tell.
    assert failed <= WORKERS * (20 + SLOTS)
    may_answer = asyncio.Event()
    service.program(delayed(may_answer, echo), service="down")
    await until(lambda: calls_of(service, "down") > failed, seconds=60)
    # The probe takes longer than its lease and than any pause; all that time nobody else calls.
    probing = datetime.now(UTC)
    await until(lambda: datetime.now(UTC) - probing > timedelta(seconds=6), seconds=60)
    assert calls_of(service, "down") == failed + 1
    may_answer.set()
    assert set((await run.fleet.wait_until_ended(requests, seconds=120)).values()) == {"completed"}
    contexts = await contexts_of(run, "down")
    # What waited was not charged, though it may have been claimed and handed back.
    assert sum(context["tries"] for context in contexts) == len(contexts) + len(failures_of(contexts))


async def check_found_again(run: Scenario, service: RecordingService, gate: Gate) -> None:
    """`gone` refuses connections, those of its first probe too."""
    await gate.refuse()
    requests = await run.fleet.submit_many(single(service="gone"), 5 * FLEET)
    await breaker_is(run, "gone", "open", opened=2)
    assert calls_of(service, "gone") == 0
    await gate.open()
    assert set((await run.fleet.wait_until_ended(requests, seconds=120)).values()) == {"completed"}
    contexts = await contexts_of(run, "gone")
    failures = failures_of(contexts)
    # Each process stops by itself at the fifth; and one more was the probe.
    assert 5 <= len(failures) <= WORKERS * (5 + SLOTS) + 1
    assert {record["error"]["code"] for record in failures} == {"connect_failed"}
    # That one took no try, because nobody answered.
    assert sum(context["tries"] for context in contexts) == len(contexts) + len(failures) - 1


def calls_of(service: RecordingService, kind: str) -> int:
    """How often this service was called so far."""
    return sum(call.service == kind for call in service.calls)


def failures_of(contexts: Iterable[Document]) -> list[Document]:
    """Their attempts that ended without an answer that could be taken; what was handed back did not begin."""
    records = [record for context in contexts for record in context["history"]]
    return [record for record in records if record["outcome"] not in ("completed", "released")]


async def contexts_of(run: Scenario, kind: str) -> list[Document]:
    """Every context of this service as it stands now."""
    contexts = (await run.history()).final_contexts.values()
    return [context for context in contexts if context["service"] == kind]


async def test_a_service_that_is_down_costs_few_tries_and_is_tried_by_one_call_in_the_whole_fleet(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    kinds = ("down", "gone")
    service.program(fail(503), service="down")
    async with Gate(service.port) as gate:
        variables = settings_of(kinds, concurrency=SLOTS, lease_seconds=LEASE, max_attempts=5)
        variables["down_lease_seconds"] = 4
        variables["gone_base_url"] = service.url("gone", port=gate.port)
        async with scenario(
            replica_set, fault_database, service, tmp_path, services=kinds, drain_seconds=120, **variables
        ) as run:
            run.bounds = Bounds(concurrency=dict.fromkeys(kinds, FLEET))
            await run.fleet.start(api_role(), *(worker_role(kind) for kind in kinds for _ in range(WORKERS)))
            await asyncio.gather(check_tried_by_one(run, service), check_found_again(run, service, gate))


class Operator:
    """Types commands, each a process of its own."""

    def __init__(self, run: Scenario) -> None:
        self._run = run
        self._variables = {"MONGODB_URI": run.fleet.uri, "MONGODB_DATABASE": run.fleet.database}

    async def types(self, *words: str) -> str:
        """The output of `agent-service services …`; fails if it does."""
        done = await asyncio.to_thread(
            run_module, "agent_service", ["services", *words], folder=self._run.folder, values=self._variables
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def sees(self, service: str) -> Mapping[str, Any]:
        """What `list` says of a service."""
        (row,) = [row for row in json.loads(await self.types("list", "--json")) if row["service"] == service]
        return dict(row)


async def test_a_service_that_an_operator_pauses_for_two_reasons_waits_for_the_end_of_both(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    variables = settings_of(("generation",), concurrency=SLOTS, lease_seconds=LEASE, poll_interval=3600)
    async with scenario(replica_set, fault_database, service, tmp_path, **variables) as run:
        run.bounds = Bounds(concurrency={"generation": FLEET})
        await run.fleet.start(api_role(), *(worker_role() for _ in range(WORKERS)))
        operator = Operator(run)
        # What runs when the pause comes is not disturbed.
        may_end = asyncio.Event()
        service.program(delayed(may_end, echo), step="runs")
        running = await run.fleet.submit_many(named("runs"), FLEET)
        await service.wait_for_calls(FLEET)
        await operator.types("pause", "generation", "--reason", "it costs too much")
        await operator.types("pause", "generation", "--name", "deploy", "--for", "3600")
        waiting = await run.fleet.submit_many(single(), 2 * FLEET)
        may_end.set()
        assert set((await run.fleet.wait_until_ended(running)).values()) == {"completed"}

        row = await operator.sees("generation")
        assert [hold["name"] for hold in row["holds"]] == ["paused", "deploy"]
        assert row["holds"][0]["reason"] == "it costs too much"
        assert row["waiting"] == len(waiting)
        await operator.types("resume", "generation")
        row = await operator.sees("generation")
        assert ([hold["name"] for hold in row["holds"]], row["waiting"]) == (["deploy"], len(waiting))
        assert service.count == FLEET

        await operator.types("resume", "generation", "--name", "deploy")
        assert set((await run.fleet.wait_until_ended(waiting)).values()) == {"completed"}
        contexts = (await run.history()).final_contexts.values()
        assert {context["tries"] for context in contexts} == {1}
        assert {len(context["history"]) for context in contexts} == {1}
