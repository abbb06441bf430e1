"""
Writes that are rolled back: the secondaries stop replicating, then the primary is killed.

What only the primary has is not executed, not acknowledged and not shown to a client.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import AsyncMongoClient, WriteConcern

from agent_service.client import AgentClient
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.faults.support.fleet import Fleet, api_role, worker_role
from tests.faults.support.member import Member
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.service_behaviours import twice
from tests.faults.support.submissions import single
from tests.support.base_service_behaviours import delayed
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)

#: What a reader is shown of an attempt that has begun and of which nothing else is certain.
BEGUN = ["request.accepted", "step.pending", "step.running"]
#: What is there already is shown at once; seconds of silence that mean that there is no more.
_SILENCE = 1.0


@asynccontextmanager
async def doomed_writes(replica_set: ReplicaSet) -> AsyncIterator[Member]:
    """The primary, alone with all that it writes in the block; it is killed then, and rolls it back."""
    primary = await replica_set.primary()
    others = await replica_set.secondaries()
    await replica_set.fail_point("stopReplProducer", on=others)
    try:
        yield primary
    finally:
        replica_set.kill(primary)
        await replica_set.fail_point("stopReplProducer", "off", on=others)
        await replica_set.wait_for_primary(other_than=primary)
        await replica_set.heal()


async def until_there(
    primary: Member, database: str, collection: str, query: dict[str, Any], count: int = 1
) -> None:
    """Until the primary itself has so many documents, whatever the majority has."""

    async def found() -> bool | None:
        async with primary.client() as client:
            return await client[database][collection].count_documents(query) >= count

    is_there: bool = await until(found, seconds=60)
    assert is_there


async def id_of(primary: Member, database: str, key: str) -> str:
    """The id that the primary has for an idempotency key."""
    async with primary.client() as client:
        found = await client[database].requests.find_one({"idempotency_key": key})
    assert found is not None
    return str(found["_id"])


async def shown_status(fleet: Fleet, request_id: str) -> str:
    """What `GET` says of the only step of a request."""
    (step,) = (await fleet.get(request_id))["steps"]
    assert step["output"] is None
    return str(step["status"])


async def shown_events(fleet: Fleet, request_id: str) -> list[str]:
    """The types of the events that a reader is shown from the beginning, until nothing more comes."""
    shown: list[str] = []
    async with AgentClient(fleet.api.url) as client, aclosing(client.stream(request_id)) as events:
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(_SILENCE if BEGUN[-1] in shown else 30):
                    shown.append((await anext(events)).type)
    return shown


async def submit_in_transaction(
    client: AsyncMongoClient[dict[str, Any]], requests: RequestService, *, key: str
) -> None:
    """Submit within a transaction that its caller commits without waiting for a majority."""
    async with (
        client.start_session() as session,
        await session.start_transaction(write_concern=WriteConcern(1)),
    ):
        await requests.submit(single(), idempotency_key=key, session=session)


async def test_a_claim_that_no_majority_has_is_not_executed(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        _, worker = await run.fleet.start(api_role(), worker_role())
        worker.pause()
        await run.fleet.submit_many(single(), 3)
        async with doomed_writes(replica_set) as primary:
            worker.resume()
            await until_there(primary, fault_database, "contexts", {"status": "running"})
            # Refused after some seconds, in which whoever takes such a claim for its own would call.
            assert await run.fleet.try_to_submit(single(), key="lost") is None
            await until_there(primary, fault_database, "requests", {"idempotency_key": "lost"})
            assert service.count == 0
        again = await run.fleet.submit(single(), key="lost")
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        history = await run.history()
    assert len(history.final_requests) == 4
    assert history.final_requests[again]["status"] == "completed"


async def test_a_client_is_not_shown_what_no_majority_has(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    may_go_on, is_over = asyncio.Event(), asyncio.Event()
    async with scenario(replica_set, fault_database, service, tmp_path, generation_lease_seconds=10) as run:
        await run.fleet.start(api_role(), worker_role())
        service.program(delayed(may_go_on, echo), attempt=1, times=1)
        answered = await run.fleet.submit(single())
        await service.wait_for_calls(1)
        service.program(delayed(may_go_on, twice("a", between=is_over)), times=1)
        streamed = await run.fleet.submit(single())
        await service.wait_for_calls(2)
        async with doomed_writes(replica_set) as primary, asyncio.TaskGroup() as group:
            may_go_on.set()
            # Refused after some seconds, in which whoever shows too much would show it.
            lost = group.create_task(run.fleet.try_to_submit(single(), key="lost"))
            await until_there(primary, fault_database, "requests", {"idempotency_key": "lost"})
            await until_there(primary, fault_database, "contexts", {"status": "completed"})
            await until_there(primary, fault_database, "events", {})
            assert await shown_status(run.fleet, answered) == "running"
            told = await asyncio.gather(*(shown_events(run.fleet, one) for one in (answered, streamed)))
            assert told == [BEGUN, BEGUN]
            with pytest.raises(httpx2.HTTPStatusError, match="404"):
                await shown_status(run.fleet, await id_of(primary, fault_database, "lost"))
            assert await lost is None
        is_over.set()
        await run.fleet.submit(single(), key="lost")
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}


@pytest.mark.exhaustive
async def test_a_request_that_no_majority_has_is_not_acknowledged_to_who_repeats_it(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with (
        scenario(replica_set, fault_database, service, tmp_path) as run,
        AsyncMongoClient[dict[str, Any]](run.fleet.uri) as client,
        Store(client[fault_database]) as store,
    ):
        await run.fleet.start(api_role(), worker_role())
        requests = RequestService(store, max_attempts={"generation": 5})
        await submit_in_transaction(client, requests, key="kept")
        async with doomed_writes(replica_set) as primary:
            # In one piece, contexts and all, it is there for everybody who reads what the primary alone has.
            await submit_in_transaction(client, requests, key="lost")
            await until_there(primary, fault_database, "contexts", {"status": "pending"})
            assert await run.fleet.try_to_submit(single(), key="lost") is None
        await run.fleet.submit(single(), key="lost")
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
