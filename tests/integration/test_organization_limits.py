"""Limits of organizations: how much is taken, what is told to those who are refused, what does not count."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from agent_service.api.app import create_app
from agent_service.domain.errors import (
    AgentServiceError,
    IdempotencyConflict,
    LimitExceeded,
    StoreUnavailable,
    WriteOutcomeUnknown,
)
from agent_service.domain.quota import Quota
from agent_service.domain.request import Caller
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted
from agent_service.store import Store
from tests.support.api import SERVICES, SUBMISSION, assert_problem, calling
from tests.support.explained_commands import CommandRecorder

ACME = Caller(organization_id="acme")
OTHER = Caller(organization_id="other")
NOBODY = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50"


def limited(store: Store, **limits: int) -> RequestService:
    return RequestService(store, max_attempts=SERVICES, quota=Quota(**limits))


@pytest.fixture
async def second_store(mongodb_uri: str, database_name: str, store: Store) -> AsyncIterator[Store]:
    """Another process, as far as MongoDB can tell."""
    async with Store.connect(mongodb_uri, database=database_name) as connected:
        yield connected


async def submit_many(service: RequestService, count: int, caller: Caller = ACME) -> list[Any]:
    submissions = [SUBMISSION] * count
    return await service.submit_many(submissions, caller=caller)


def taken(results: list[Any]) -> int:
    assert all(isinstance(result, Accepted | LimitExceeded) for result in results)
    return sum(isinstance(result, Accepted) for result in results)


async def end_one(service: RequestService, results: list[Any]) -> None:
    accepted = next(result for result in results if isinstance(result, Accepted))
    await service.cancel(accepted.request.id)


async def test_no_more_requests_are_open_than_may_be_and_others_may_have_theirs(store: Store) -> None:
    service = limited(store, max_open_requests=10)
    results = await submit_many(service, 25)
    assert taken(results) == 10
    with pytest.raises(LimitExceeded, match="at most 10 requests may be open") as caught:
        await service.submit(SUBMISSION, caller=ACME)
    assert caught.value.retry_after > timedelta(0)
    assert taken(await submit_many(service, 10, OTHER)) == 10
    await store.calls.finish()
    await end_one(service, results)
    assert (await service.submit(SUBMISSION, caller=ACME)).replayed is False
    await store.calls.finish()
    with pytest.raises(LimitExceeded):
        await service.submit(SUBMISSION, caller=ACME)


async def test_two_processes_together_never_take_more_than_may_be_open(
    store: Store, second_store: Store
) -> None:
    services = [limited(each, max_open_requests=30) for each in (store, second_store)]
    open_now = 0
    for _ in range(20):
        await asyncio.gather(*(submit_many(service, 7) for service in services))
        await asyncio.gather(*(each.calls.finish() for each in (store, second_store)))
        open_now = await store.quotas.open_requests("acme", limit=1000)
        assert open_now <= 30
        if open_now == 30:
            break
    assert open_now == 30


async def test_what_another_process_is_storing_just_now_counts_already(store: Store) -> None:
    service = limited(store, max_open_requests=3)
    await store.quotas.take("acme", 2, Quota(max_open_requests=3), token="elsewhere")
    assert taken(await submit_many(service, 3)) == 1
    await store.calls.finish()
    await store.quotas.give_back("acme", token="elsewhere", unused=0)
    assert taken(await submit_many(service, 3)) == 2


async def test_no_more_is_submitted_in_a_minute_than_may_be(store: Store, second_store: Store) -> None:
    services = [limited(each, submissions_per_minute=20) for each in (store, second_store)]
    results = await asyncio.gather(*(submit_many(service, 30) for service in services))
    # In a slow test some come anew meanwhile.
    assert 20 <= sum(taken(each) for each in results) <= 30
    refused = [result for result in await submit_many(services[0], 30) if isinstance(result, LimitExceeded)]
    assert "20 requests may be submitted in a minute" in str(refused[0])
    assert timedelta(0) < refused[0].retry_after <= timedelta(seconds=3)


async def test_a_replay_is_not_counted_and_goes_through_at_the_limit(store: Store) -> None:
    service = limited(store, max_open_requests=2, submissions_per_minute=3)
    first = await service.submit(SUBMISSION, caller=ACME, idempotency_key="one")
    for _ in range(10):
        again = await service.submit(SUBMISSION, caller=ACME, idempotency_key="one")
        assert (again.replayed, again.request.id) == (True, first.request.id)
        other = {**SUBMISSION, "priority": 1}
        with pytest.raises(IdempotencyConflict):
            await service.submit(other, caller=ACME, idempotency_key="one")
        await store.calls.finish()
    await service.submit(SUBMISSION, caller=ACME, idempotency_key="two")
    await store.calls.finish()
    assert (await service.submit(SUBMISSION, caller=ACME, idempotency_key="two")).replayed
    with pytest.raises(LimitExceeded):
        await service.submit(SUBMISSION, caller=ACME, idempotency_key="three")


async def test_a_retry_is_counted_like_a_submission(store: Store) -> None:
    service = limited(store, max_open_requests=1)
    accepted = await service.submit(SUBMISSION, caller=ACME)
    await service.cancel(accepted.request.id)
    await store.calls.finish()
    await service.retry(accepted.request.id, organization_id="acme")
    await store.calls.finish()
    with pytest.raises(LimitExceeded):
        await service.retry(accepted.request.id, organization_id="acme")


async def test_without_limits_nothing_is_sent_for_them(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    await RequestService(recorded_store, max_attempts=SERVICES).submit(SUBMISSION, caller=ACME)
    assert recorder.sent
    assert [command for _, command in recorder.sent if "quotas" in command.values()] == []
    assert recorder.named("aggregate", "createIndexes") == []


async def test_those_who_submit_together_are_counted_together(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    service = limited(recorded_store, max_open_requests=1000, submissions_per_minute=1000)
    await service.submit(SUBMISSION, caller=ACME)
    await recorded_store.calls.finish()
    recorder.sent.clear()
    assert taken(await submit_many(service, 50)) == 50
    await recorded_store.calls.finish()
    assert len(recorder.named("findAndModify")) <= 2
    assert len(recorder.named("aggregate")) <= 2


@pytest.mark.usefixtures("impatient")
async def test_where_nobody_can_count_nothing_is_taken() -> None:
    async with Store.connect(NOBODY) as store:
        service = limited(store, submissions_per_minute=5)
        with pytest.raises(StoreUnavailable):
            await service.submit(SUBMISSION, caller=ACME)


async def test_a_count_that_was_sent_and_not_confirmed_has_stored_no_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise WriteOutcomeUnknown("lost")

    service = limited(store, submissions_per_minute=5)
    monkeypatch.setattr(store.quotas, "take", lost)
    results: list[Accepted | AgentServiceError] = await submit_many(service, 2)
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    assert results[0] is not results[1]


async def test_the_api_answers_429_and_says_when_to_try_again(store: Store) -> None:
    app = create_app(store, limited(store, submissions_per_minute=1), max_body_bytes=100_000)
    async with calling(app) as api:
        batch = {"requests": [SUBMISSION] * 5}
        mixed = await api.post("/v1/requests:batch", json=batch)
        assert mixed.status_code == 202
        assert 1 <= int(mixed.headers["retry-after"]) <= 60
        codes = [result.get("problem", {}).get("code") for result in mixed.json()["results"]]
        assert codes == [None] + ["limit_exceeded"] * 4
        for path, body in (("/v1/requests", SUBMISSION), ("/v1/requests:batch", batch)):
            refused = await api.post(path, json=body)
            assert_problem(refused, 429, "limit_exceeded")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
