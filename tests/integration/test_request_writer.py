"""Requests that arrive together are stored together, and each as if it were alone."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_service import request_writer
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import IdempotencyConflict, StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.request import Caller, Request
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted, RequestWriter
from agent_service.store import Store, marks
from tests.support.contexts import a_request, a_step, encoded
from tests.support.explained_commands import CommandRecorder
from tests.support.submissions import confirmed, planned
from tests.support.waiting import until
from tests.support.worker_tools import DEADLINE_SECONDS, Raw

ONE_STEP = {"service": "analysis", "input": 1}


@pytest.fixture
def writer(store: Store) -> RequestWriter:
    return RequestWriter(store, ContextManager(store))


async def together(writer: RequestWriter, *requests: Request) -> list[Accepted | BaseException]:
    """What each gets for whom the others arrive at the same moment."""
    submitting = (writer.submit(request, encoded(request)) for request in requests)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.gather(*submitting, return_exceptions=True)


def replays(results: Sequence[Accepted | BaseException]) -> list[tuple[str, bool]]:
    """Of each the id of its request, and whether another submission had made that."""
    assert all(isinstance(result, Accepted) for result in results), results
    return [(result.request.id, result.replayed) for result in results if isinstance(result, Accepted)]


async def assert_planned(store: Store, *requests: Request) -> None:
    """Each is planned soon, and its contexts are there then."""
    await planned(store)
    for request in requests:
        stored = await store.requests.get(request.id)
        assert stored is not None
        assert stored.planned
        contexts = await store.contexts.of_request(request.id)
        assert {context.step for context in contexts} == set(request.step_names)


async def test_a_lone_request_is_answered_after_one_command_and_planned_in_three_more(
    recorded_store: Store, store: Store, recorder: CommandRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_WITHIN", timedelta(minutes=1))
    writer, request = RequestWriter(recorded_store, ContextManager(recorded_store)), a_request()
    assert replays(await together(writer, request)) == [(request.id, False)]
    assert [command["insert"] for command in recorder.named("insert")][:1] == ["requests"]
    await confirmed(store, request)
    await planned(recorded_store)
    assert [name for name, _ in recorder.sent] == ["insert", "insert", "find", "update"]
    await assert_planned(recorded_store, request)


async def test_requests_that_arrive_together_are_written_in_four_commands(
    recorded_store: Store, store: Store, recorder: CommandRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_WITHIN", timedelta(minutes=1))
    writer = RequestWriter(recorded_store, ContextManager(recorded_store))
    requests = [a_request(a_step("one"), a_step("two", "one")) for _ in range(40)]
    assert replays(await together(writer, *requests)) == [(request.id, False) for request in requests]
    await confirmed(store, *requests)
    await planned(recorded_store)
    assert [name for name, _ in recorder.sent] == ["insert", "insert", "find", "update"]
    await assert_planned(recorded_store, *requests)


async def test_what_arrives_while_a_group_is_written_goes_into_the_next(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    go_on, insert_many = asyncio.Event(), store.requests.insert_many

    async def slow(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        groups.append(len(requests))
        await go_on.wait()
        return await insert_many(requests, **options)

    monkeypatch.setattr(store.requests, "insert_many", slow)
    monkeypatch.setattr(request_writer, "_GROUPS_AT_ONCE", 1)
    requests = [a_request() for _ in range(10)]
    first = asyncio.create_task(together(writer, *requests[:1]))
    await until(lambda: groups)
    others = [asyncio.create_task(together(writer, request)) for request in requests[1:]]
    await until(lambda: len(writer._waiting) == len(others))
    go_on.set()
    await asyncio.gather(first, *others)
    assert groups == [1, 9]
    await assert_planned(store, *requests)


async def test_what_does_not_fit_into_one_group_is_written_beside_it(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, insert_many = asyncio.Barrier(2), store.requests.insert_many

    async def slow(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await both.wait()
        return await insert_many(requests, **options)

    monkeypatch.setattr(store.requests, "insert_many", slow)
    monkeypatch.setattr(request_writer, "_MOST_REQUESTS", 2)
    monkeypatch.setattr(request_writer, "_GROUPS_AT_ONCE", 2)
    requests = [a_request() for _ in range(4)]
    assert replays(await together(writer, *requests)) == [(request.id, False) for request in requests]


@pytest.mark.parametrize("largest", [1, 3, 500])
async def test_however_requests_are_grouped_the_same_is_stored(
    writer: RequestWriter, store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(request_writer, "_MOST_REQUESTS", largest)
    keys = ["a", "b", None, "a", "c", "b", None, "a"]
    requests = [
        a_request(a_step("one"), a_step("two", "one"), idempotency_key=key, id=f"r{number}")
        for number, key in enumerate(keys)
    ]
    results = replays(await together(writer, *requests))
    made = {request_id for request_id, replayed in results if not replayed}
    assert len(made) == 5
    assert {"r2", "r4", "r6"} < made
    for request, (request_id, _) in zip(requests, results, strict=True):
        other = next(each for each in requests if each.id == request_id)
        assert other.idempotency_key == request.idempotency_key
    assert set(await raw.requests.distinct("_id")) == made
    await assert_planned(store, *(request for request in requests if request.id in made))
    assert await raw.contexts.count_documents({}) == 2 * len(made)


@pytest.mark.parametrize("name", ["_MOST_CONTEXTS", "_MOST_BYTES"])
async def test_a_group_is_bounded_and_what_is_larger_alone_goes_alone(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    groups: list[list[str]] = []
    insert_many = store.requests.insert_many

    async def watched(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        groups.append([request.id for request in requests])
        return await insert_many(requests, **options)

    monkeypatch.setattr(store.requests, "insert_many", watched)
    large = a_request(*(a_step(f"step_{number}") for number in range(10)), id="large")
    small = [a_request(a_step("one"), a_step("two"), id=f"small_{number}") for number in range(4)]
    # Those of two small ones; a request may be in each of its contexts.
    limit = 4 if name == "_MOST_CONTEXTS" else 2 * 3 * len(encoded(small[0]).raw)
    monkeypatch.setattr(request_writer, name, limit)
    await together(writer, *small[:1], large, *small[1:])
    assert groups == [["small_0"], ["large"], ["small_1", "small_2"], ["small_3"]]
    await assert_planned(store, large, *small)


async def test_one_key_in_a_group_makes_one_request_and_another_body_is_a_conflict(
    writer: RequestWriter, store: Store, raw: Raw
) -> None:
    before = a_request(idempotency_key="stored")
    await together(writer, before)
    first, again = a_request(idempotency_key="key"), a_request(idempotency_key="key")
    other = a_request(idempotency_key="key", fingerprint="other")
    elsewhere = a_request(idempotency_key="key", caller=Caller(organization_id="elsewhere"))
    stored = a_request(idempotency_key="stored")
    *results, conflict = await together(writer, first, again, elsewhere, stored, other)
    assert replays(results) == [
        (first.id, False),
        (first.id, True),
        (elsewhere.id, False),
        (before.id, True),
    ]
    assert isinstance(conflict, IdempotencyConflict)
    assert await raw.requests.count_documents({}) == 3
    await assert_planned(store, before, first, elsewhere)


async def test_in_a_group_too_dependents_are_there_before_what_they_wait_for(
    writer: RequestWriter, store: Store, raw: Raw
) -> None:
    steps = (a_step("one"), a_step("two", "one"), a_step("three", "two"))
    requests = [a_request(*steps) for _ in range(5)]
    await together(writer, *requests)
    await planned(store)
    inserted = [document async for document in raw.contexts.find().sort("$natural", 1)]
    for request in requests:
        order = [document["step"] for document in inserted if document["request_id"] == request.id]
        assert order == ["three", "two", "one"]


def hold_back_inserts(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Set when requests are about to be inserted; and to be set, so that they are."""
    began, go_on, insert_many = asyncio.Event(), asyncio.Event(), store.requests.insert_many

    async def slow(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        began.set()
        await go_on.wait()
        return await insert_many(requests, **options)

    monkeypatch.setattr(store.requests, "insert_many", slow)
    return began, go_on


async def test_whoever_is_cancelled_in_a_group_has_submitted_all_the_same(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = hold_back_inserts(store, monkeypatch)
    requests = RequestService(store)
    submitting = [asyncio.create_task(requests.submit(ONE_STEP)) for _ in range(5)]
    await began.wait()
    submitting[2].cancel()
    (cancelled,) = await asyncio.gather(submitting[2], return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    go_on.set()
    await asyncio.gather(*submitting[:2], *submitting[3:])
    await planned(store)
    assert await raw.requests.count_documents({"planned": True}) == 5


async def test_whoever_is_cancelled_before_anything_is_sent_has_submitted_all_the_same(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = hold_back_inserts(store, monkeypatch)
    monkeypatch.setattr(request_writer, "_GROUPS_AT_ONCE", 1)
    requests = RequestService(store)
    first = asyncio.create_task(requests.submit(ONE_STEP))
    await began.wait()
    waiting = asyncio.create_task(requests.submit(ONE_STEP, idempotency_key="waiting"))
    await until(lambda: requests._intake._writer._waiting)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    go_on.set()
    await first
    await planned(store)
    assert await raw.requests.count_documents({"planned": True}) == 2
    again = await requests.submit(ONE_STEP, idempotency_key="waiting")
    assert again.replayed


async def test_whoever_waits_for_too_long_is_told_whether_anything_was_sent(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, insert_many = asyncio.Event(), store.requests.insert_many

    async def slow(requests: Sequence[Request], **options: Any) -> frozenset[str]:
        await go_on.wait()
        return await insert_many(requests, **options)

    monkeypatch.setattr(store.requests, "insert_many", slow)
    monkeypatch.setattr(request_writer, "_GROUPS_AT_ONCE", 1)
    monkeypatch.setattr(request_writer, "_LEAST_TIME", 0.0)
    monkeypatch.setattr(request_writer, "CALLER_LIMIT", timedelta(seconds=2))
    sent, waiting = a_request(), a_request()
    first = asyncio.create_task(together(writer, sent))
    await until(lambda: writer._groups and not writer._waiting)
    (second,) = await together(writer, waiting)
    assert isinstance(second, StoreUnavailable)
    assert isinstance((await first)[0], WriteOutcomeUnknown)
    go_on.set()
    await store.calls.finish()
    assert await store.requests.get(waiting.id) is None


async def test_what_could_not_be_answered_in_time_is_not_sent_at_all(
    writer: RequestWriter, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_writer, "_LEAST_TIME", 1_000)
    results = await together(writer, a_request(), a_request())
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    assert await raw.requests.count_documents({}) == 0
