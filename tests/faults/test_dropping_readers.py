"""Readers whose connection, API process, worker or primary goes away: in the end they have what is stored."""

from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.dropping_reader import DroppingReader, dropping_reader
from tests.faults.support.fleet import Fleet, api_role, worker_role
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import stream
from tests.faults.support.submissions import single
from tests.support.event_streams import read_stream

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

#: How many pieces each attempt streams, and how far apart; further than 50 ms, so each is a chunk.
PIECES = 50
EVERY = timedelta(milliseconds=100)


def stream_each_attempt(service: RecordingService) -> None:
    """Each attempt says something of its own."""
    for attempt in range(1, 10):
        pieces = [f"{attempt}/{number} " for number in range(PIECES)]
        service.program(stream(*pieces, every=EVERY), attempt=attempt)


async def assert_exactly_what_is_stored(run: Scenario, reader: DroppingReader, request_id: str) -> int:
    """Its text is the output and the stored chunks, nothing came twice; returns the last attempt."""
    shown = await run.fleet.get(request_id)
    last = int(shown["steps"][0]["attempt"])
    async with AsyncMongoClient[dict[str, Any]](run.fleet.uri) as client:
        chunks = client[run.fleet.database].events.find({"attempt": last}).sort("seq")
        stored = [str(chunk["delta"]) async for chunk in chunks]
    assert reader.deltas(last) == stored
    assert shown["steps"][0]["output"] == {"text": "".join(stored)}
    ids = [event.id for event in reader.events]
    assert len(set(ids)) == len(ids)
    # Once an attempt has begun, nothing of an older one is shown.
    attempts = [
        event.data["attempt"] for event in reader.events if event.type in ("step.running", "output.delta")
    ]
    assert attempts == sorted(attempts)
    types = [event.type for event in reader.events]
    assert (types[0], types[-2:]) == ("request.accepted", ["step.completed", "request.completed"])
    run.readings.append(reader.reading)
    return last


async def test_a_reader_cut_off_at_every_event_misses_nothing_though_worker_api_and_primary_are_killed(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    stream_each_attempt(service)
    async with scenario(replica_set, fault_database, service, tmp_path, generation_max_attempts=20) as run:
        doomed_api, _, doomed_worker = await run.fleet.start(api_role(), api_role(), worker_role())
        request_id = await run.fleet.submit(single())
        async with dropping_reader(run.fleet, request_id) as reader:
            await reader.has_seen(5, attempt=1)
            run.fleet.kill(doomed_worker)
            await run.fleet.start(worker_role())
            await reader.has_seen(5, attempt=2)
            run.fleet.kill(doomed_api)
            await reader.has_seen(12, attempt=2)
            primary = await replica_set.primary()
            replica_set.kill(primary)
            await replica_set.wait_for_primary(other_than=primary)
            await replica_set.heal()
            await run.fleet.wait_until_ended(seconds=120)
        assert await assert_exactly_what_is_stored(run, reader, request_id) >= 2
        assert 5 <= len(reader.deltas(1)) < PIECES


async def test_what_a_worker_hands_back_when_it_is_stopped_is_streamed_anew(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    stream_each_attempt(service)
    async with scenario(replica_set, fault_database, service, tmp_path, shutdown_grace_seconds=1) as run:
        _, stopped = await run.fleet.start(api_role(), worker_role())
        request_id = await run.fleet.submit(single())
        async with dropping_reader(run.fleet, request_id) as reader:
            await reader.has_seen(5, attempt=1)
            stopped.terminate()
            await run.fleet.start(worker_role())
            assert await stopped.ended() == 0
        assert await assert_exactly_what_is_stored(run, reader, request_id) == 2
        retrying = [event for event in reader.events if event.type == "step.retrying"]
        assert [event.data["attempt"] for event in retrying] == [1]
        assert 5 <= len(reader.deltas(1)) < PIECES


async def test_an_api_process_that_is_stopped_sends_its_readers_elsewhere_and_ends(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with Fleet(replica_set.uri, fault_database, service, tmp_path) as fleet:
        stopped, other = await fleet.start(api_role(), api_role())
        request_id = await fleet.submit(single())
        path = f"/v1/requests/{request_id}/events"
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            async with (
                client.stream("GET", f"{stopped.url}{path}") as response,
                aclosing(read_stream(response)) as events,
            ):
                seen = [await anext(events), await anext(events)]
                stopped.terminate()
                # The body ends as it should, not in the middle.
                rest = [event async for event in events]
            assert [event.type for event in seen] == ["request.accepted", "step.pending"]
            # It has no id, so the cursor stays where it was.
            assert [(event.type, event.id) for event in rest] == [("server.draining", seen[-1].id)]
            assert await stopped.ended() == 0
            await fleet.start(worker_role())
            headers = {"Last-Event-ID": rest[-1].id}
            async with client.stream("GET", f"{other.url}{path}", headers=headers) as response:
                later = [event.type async for event in read_stream(response)]
        assert later == ["step.running", "step.completed", "request.completed"]
        assert fleet.processes[0].errors() == []
