"""
One idempotency key, sent to several API processes at once, and while MongoDB elects: one request, one answer.

Whoever is not told of that request is told to ask again, and no key is ever taken by a request that is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.duplicates import Answer, Duplicates, duplicates
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.submissions import diamond, named, single
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)

KEYS = [f"key-{number}" for number in range(12)]
#: Why a duplicate may be asked to come again.
AGAIN = {"not_durable_yet", "outcome_unknown", "store_unavailable"}


async def killed(replica_set: ReplicaSet) -> None:
    primary = await replica_set.primary()
    replica_set.kill(primary)
    await replica_set.wait_for_primary(other_than=primary)
    await replica_set.heal()


async def stepped_down(replica_set: ReplicaSet) -> None:
    primary = await replica_set.step_down()
    await replica_set.wait_for_primary(other_than=primary)


async def stored_ids(replica_set: ReplicaSet, database: str, key: str) -> list[str]:
    """The requests that a key has made."""
    async with AsyncMongoClient[dict[str, Any]](replica_set.uri) as client:
        found = client[database].requests.find({"idempotency_key": key})
        return [document["_id"] async for document in found]


async def until_inserted(replica_set: ReplicaSet, database: str, key: str) -> None:
    """Until the primary has the request of a key, whatever the majority has."""

    async def is_inserted() -> bool | None:
        async with (await replica_set.primary()).client() as client:
            return await client[database].requests.count_documents({"idempotency_key": key}) > 0

    inserted: bool = await until(is_inserted, seconds=60)
    assert inserted


def assert_one_request(answers: Sequence[Answer]) -> str:
    """Check what the clients of one key were told; the id of its request."""
    taken = [answer for answer in answers if answer.is_taken]
    (request_id,) = {answer.id for answer in taken}
    assert request_id is not None
    assert {answer.location for answer in taken} == {f"/v1/requests/{request_id}"}
    # The first one may have been told that its outcome is unknown; then all others come after it.
    is_certain = all(answer.code in (None, "not_durable_yet") for answer in answers)
    assert sum(not answer.replayed for answer in taken) in ({1} if is_certain else {0, 1})
    for answer in answers:
        if not answer.is_taken:
            assert (answer.status, answer.code in AGAIN) == (503, True), answer
            assert int(answer.retry_after or 0) >= 1
    return request_id


async def test_duplicates_at_two_processes_are_one_request(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        # So long that no step is called again.
        worker = worker_role(generation_lease_seconds=30)
        first, second, _ = await run.fleet.start(api_role(), api_role(), worker)
        async with duplicates(run.fleet, first, second) as clients:
            await clients.insist_everywhere(diamond(), KEYS, times=4)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        for key in KEYS:
            request_id = assert_one_request(clients.answers[key])
            assert await stored_ids(replica_set, fault_database, key) == [request_id]
    # Of each request each of the four steps was called once.
    assert len(service.calls) == 4 * len(KEYS)


@pytest.mark.exhaustive
async def test_of_two_bodies_with_one_key_one_is_taken_and_the_other_is_refused_everywhere(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    bodies = [named("one"), named("other")]
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        first, second, _ = await run.fleet.start(api_role(), api_role(), worker_role())
        async with duplicates(run.fleet, first, second) as clients:
            for key in KEYS:
                told = await asyncio.gather(
                    *(clients.insist_everywhere(body, [key], times=2) for body in bodies)
                )
                statuses = [{answer.status for answer in answers} for answers in told]
                assert sorted(statuses, key=min) == [{202}, {422}]
                answers = [answer for each in told for answer in each]
                refused = [answer for answer in answers if answer.status == 422]
                assert {answer.code for answer in refused} == {"idempotency_key_reused"}
                assert_one_request([answer for answer in answers if answer.is_taken])


Election = Callable[[ReplicaSet], Awaitable[None]]


@pytest.mark.exhaustive
@pytest.mark.parametrize("primary_is", [killed, stepped_down])
async def test_duplicates_in_an_election_are_one_request(
    primary_is: Election,
    replica_set: ReplicaSet,
    fault_database: str,
    service: RecordingService,
    tmp_path: Path,
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        first, second, _ = await run.fleet.start(api_role(), api_role(), worker_role())
        async with duplicates(run.fleet, first, second) as clients:
            keys = await send_through(primary_is(replica_set), clients)
            # Whatever became of the first answers, the same keys tell it to everybody now.
            await clients.insist_everywhere(diamond(), keys, times=1)
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        for key in keys:
            request_id = assert_one_request(clients.answers[key])
            assert await stored_ids(replica_set, fault_database, key) == [request_id]


async def send_through(election: Awaitable[None], clients: Duplicates) -> list[str]:
    """Send duplicates before, while and after MongoDB elects; returns their keys."""
    keys: list[str] = []
    over = asyncio.Event()

    async def send_on_and_on(number: int) -> None:
        rounds = 0
        while not over.is_set() or rounds < 2:
            key = f"client-{number}-{rounds}"
            keys.append(key)
            await clients.insist_everywhere(diamond(), [key], times=2)
            rounds += 1

    async def elect() -> None:
        await until(lambda: len(clients.answers) >= len(KEYS) // 2, seconds=60)
        await election
        over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(elect())
        for number in range(3):
            group.create_task(send_on_and_on(number))
    return keys


@pytest.mark.exhaustive
async def test_a_duplicate_of_what_no_majority_has_is_told_to_ask_again(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        first, second, _ = await run.fleet.start(api_role(), api_role(), worker_role())
        async with duplicates(run.fleet, first, second) as clients:
            # Whatever has to be prepared is prepared, and its answers are there.
            await clients.insist_everywhere(single(), ["before"], times=1)
            secondaries = await replica_set.secondaries()
            await replica_set.fail_point("stopReplProducer", on=secondaries)
            original = asyncio.create_task(clients.send(single(), "key", first))

            await until_inserted(replica_set, fault_database, "key")
            answers = await asyncio.gather(
                *(clients.send(single(), "key", api) for api in (first, second)), original
            )
            assert all(answer is not None and answer.status == 503 for answer in answers)
            await replica_set.fail_point("stopReplProducer", "off", on=secondaries)
            await clients.insist_everywhere(single(), ["key"], times=2)
        request_id = assert_one_request(clients.answers["key"])
        assert await stored_ids(replica_set, fault_database, "key") == [request_id]


@pytest.mark.exhaustive
async def test_a_key_whose_request_was_rolled_back_is_free(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        first, second, _ = await run.fleet.start(api_role(), api_role(), worker_role())
        async with duplicates(run.fleet, first, second) as clients:
            await clients.insist_everywhere(single(), ["before"], times=1)
            primary = await replica_set.primary()
            secondaries = await replica_set.secondaries()
            await replica_set.fail_point("stopReplProducer", on=secondaries)
            lost = asyncio.create_task(clients.send(single(), "key", first))

            await until_inserted(replica_set, fault_database, "key")
            replica_set.kill(primary)
            await replica_set.fail_point("stopReplProducer", "off", on=secondaries)
            await replica_set.wait_for_primary(other_than=primary)
            await clients.insist_everywhere(single(), ["key"], times=2)
            await replica_set.heal()
            await lost
        request_id = assert_one_request(clients.answers["key"])
        assert await stored_ids(replica_set, fault_database, "key") == [request_id]
