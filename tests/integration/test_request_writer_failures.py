"""A group that cannot be written as one: each caller is told the truth, and what can be stored is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent_service import request_writer
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreUnavailable, UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.request import Request, RequestStatus, Step
from agent_service.request_writer import Accepted, RequestWriter
from agent_service.store import Store
from agent_service.telemetry import fail_point
from agent_service.testing.databases import empty_database
from tests.support.contexts import a_request, a_step, encoded
from tests.support.crashing import Crash, crash_at_write
from tests.support.fail_points import FailPoint, fragile_store
from tests.support.hand_worker import work_off
from tests.support.rescuers import a_replanner
from tests.support.submissions import planned
from tests.support.worker_tools import DEADLINE_SECONDS, Raw

UNCONFIRMED: dict[str, Any] = {"writeConcernError": {"code": 64, "errmsg": "waiting timed out"}}
#: Ways in which a command fails once or twice, which nobody who submits has to know of.
PASSING: dict[str, tuple[int, dict[str, Any]]] = {
    "the connection is closed twice": (2, {"closeConnection": True}),
    "applied and not confirmed": (1, UNCONFIRMED),
    "the disk is full": (1, {"errorCode": 14031}),
    "refused for one document": (1, {"errorCode": 10334}),
}


@pytest.fixture
async def fragile(mongodb_uri: str, database_name: str) -> AsyncIterator[tuple[Store, FailPoint]]:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        yield store, point


def some_requests(count: int = 6) -> list[Request]:
    return [
        a_request(a_step("one"), a_step("two", "one"), id=f"r{n}", idempotency_key=f"k{n}")
        for n in range(count)
    ]


async def submit(store: Store, requests: Sequence[Request]) -> list[Accepted | BaseException]:
    """What each gets who submits together with the others."""
    writer = RequestWriter(store, ContextManager(store))
    submitting = (writer.submit(request, encoded(request)) for request in requests)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.gather(*submitting, return_exceptions=True)


async def assert_stored_once(store: Store, raw: Raw, requests: Sequence[Request]) -> None:
    """Each is planned soon, and all of its contexts are there then."""
    await planned(store)
    assert set(await raw.requests.distinct("_id", {"planned": True})) == {request.id for request in requests}
    ids = {f"{request.id}.{step}" for request in requests for step in request.step_names}
    assert set(await raw.contexts.distinct("_id")) == ids


@pytest.mark.parametrize("how", PASSING, ids=lambda how: how.replace(" ", "_"))
async def test_a_group_whose_write_failed_is_written_one_by_one(
    fragile: tuple[Store, FailPoint], raw: Raw, how: str
) -> None:
    store, point = fragile
    requests = some_requests()
    times, fault = PASSING[how]
    await point.fail("insert", times=times, **fault)
    results = await submit(store, requests)
    assert [isinstance(result, Accepted) and result.replayed for result in results] == [False] * 6
    await assert_stored_once(store, raw, requests)


async def test_one_that_cannot_be_stored_fails_alone(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that it goes together with the others.
    monkeypatch.setattr(request_writer, "_MOST_BYTES", 100_000_000)
    large = a_request(Step(name="one", service="generation", input="x" * 17_000_000))
    requests = some_requests()
    results = await submit(store, [*requests[:3], large, *requests[3:]])
    assert isinstance(results.pop(3), UnstorableValue)
    assert all(isinstance(result, Accepted) for result in results)
    await assert_stored_once(store, raw, requests)


async def test_an_error_that_nobody_expects_concerns_its_request_only(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_many = store.requests.insert_many

    async def insert(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        if any(request.id == "r2" for request in requests):
            raise KeyError("odd")
        return await insert_many(requests, **options)

    monkeypatch.setattr(store.requests, "insert_many", insert)
    requests = some_requests()
    results = await submit(store, requests)
    assert isinstance(results.pop(2), KeyError)
    assert all(isinstance(result, Accepted) for result in results)
    await assert_stored_once(store, raw, [*requests[:2], *requests[3:]])


async def test_what_no_majority_confirms_is_unknown_to_each_and_is_stored_once_when_repeated(
    fragile: tuple[Store, FailPoint], raw: Raw
) -> None:
    store, point = fragile
    requests = some_requests()
    await point.fail("insert", **UNCONFIRMED)
    results = await submit(store, requests)
    assert [type(result) for result in results] == [WriteOutcomeUnknown] * 6
    await point.off()
    again = await submit(store, [a_request(idempotency_key=r.idempotency_key) for r in requests])
    assert [one.request.id for one in again if isinstance(one, Accepted)] == [r.id for r in requests]
    await a_replanner(store).look()
    await assert_stored_once(store, raw, requests)


async def test_where_mongodb_is_not_reached_each_is_told_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_writer, "_MARGIN", 3)
    async with Store.connect("mongodb://127.0.0.1:9/?replicaSet=rs0") as store:
        results = await submit(store, some_requests())
    assert [type(result) for result in results] == [StoreUnavailable] * 6
    # Each is raised by its own caller.
    assert len({id(result) for result in results}) == 6


async def test_after_a_group_of_which_nothing_is_known_nobody_is_told_that_nothing_was_sent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def insert(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        raise WriteOutcomeUnknown("no answer") if len(requests) > 1 else StoreUnavailable("no primary")

    monkeypatch.setattr(store.requests, "insert_many", insert)
    assert [type(result) for result in await submit(store, some_requests())] == [WriteOutcomeUnknown] * 6
    assert [type(result) for result in await submit(store, some_requests(1))] == [StoreUnavailable]


@pytest.mark.parametrize("count", [1, 3])
async def test_contexts_that_cannot_be_stored_now_are_left_to_the_rescuer(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, warnings: list[str], count: int
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("no primary")

    monkeypatch.setattr(store.contexts, "insert", away)
    requests = some_requests(count)
    assert all(isinstance(result, Accepted) for result in await submit(store, requests))
    await store.calls.finish()
    assert sum("left to the rescuer" in line for line in warnings) == 1
    monkeypatch.undo()
    await a_replanner(store).look()
    await assert_stored_once(store, raw, requests)


async def test_nobody_is_told_that_nothing_was_written_once_the_request_is_there(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for the contexts too, as a retry does."""

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("no primary")

    monkeypatch.setattr(store.contexts, "insert", away)
    requests = some_requests(1)
    with pytest.raises(WriteOutcomeUnknown):
        await RequestWriter(store, ContextManager(store)).submit_apart(requests[0])
    monkeypatch.undo()
    await a_replanner(store).look()
    await assert_stored_once(store, raw, requests)


@pytest.mark.parametrize("applied", [False, True], ids=["not sent", "applied"])
async def test_wherever_the_process_dies_that_writes_a_group_what_is_submitted_again_is_there_once(
    mongodb_uri: str, raw: Raw, applied: bool
) -> None:
    at, crashed = 0, True
    while crashed:
        async with Store.connect(mongodb_uri, database=raw.name) as store:
            await store.prepare()
            with crash_at_write(at, applied=applied) as writes:
                ends = await submit(store, some_requests(3))
                await planned(store)
            crashed = writes.crashed
            # Behind the first write they are acknowledged.
            assert all(isinstance(end, Crash if at == 0 else Accepted) for end in ends), ends
            again = [replace(request, id=f"{request.id}_again") for request in some_requests(3)]
            made = [end.request.id for end in await submit(store, again) if isinstance(end, Accepted)]
            # Of those that were inserted there is no second one.
            assert made == [
                request.id for request in (again if at == 0 and not applied else some_requests(3))
            ]
            await planned(store)
            await a_replanner(store).look()
            contexts = ContextManager(store)
            assert await work_off(contexts) == 2 * 3
            await planned(store)
            for request_id in made:
                request = await store.requests.get(request_id)
                assert request is not None
                assert (request.status, request.planned) == (RequestStatus.COMPLETED, True)
        await empty_database(raw)
        at += 1
    # A group of any size takes three writes, and one more where a majority is late.
    assert at - 1 in (3, 4)


@pytest.mark.parametrize("point", ["request.inserted", "contexts.inserted", "request.planned"])
async def test_what_nobody_expects_while_a_group_is_planned_is_told_and_repaired(
    store: Store, raw: Raw, warnings: list[str], point: str
) -> None:
    requests = some_requests(3)
    fail_point.arm(f"{point}=raise")
    try:
        assert all(isinstance(result, Accepted) for result in await submit(store, requests))
        await planned(store)
    finally:
        fail_point.arm("")
    assert any("a fail point was reached" in line for line in warnings)
    await a_replanner(store).look()
    await assert_stored_once(store, raw, requests)
