"""What MongoDB counts of each organization: exactly, over all processes, and looking at nothing else."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.quota import Quota
from agent_service.domain.request import Caller, RequestStatus
from agent_service.store import Store
from agent_service.store.quotas import Share
from tests.support.contexts import NOW, a_request, a_step
from tests.support.damage import VALUES
from tests.support.explained_commands import CommandRecorder, Document, explain

SIX_A_MINUTE = Quota(submissions_per_minute=6)
ANY_RATE = Quota(max_open_requests=5)


async def take(store: Store, wanted: int, quota: Quota, organization: str = "acme") -> Share:
    return await store.quotas.take(organization, wanted, quota, token=uuid.uuid4().hex)


async def make_earlier(raw: AsyncDatabase[Document], by: timedelta) -> None:
    """Let the time pass for all documents."""
    milliseconds = by.total_seconds() * 1000
    await raw["quotas"].update_many({}, [{"$set": {"at": {"$subtract": ["$at", milliseconds]}}}])


async def test_a_bucket_is_emptied_and_fills_again_with_time(
    store: Store, raw: AsyncDatabase[Document]
) -> None:
    assert (await take(store, 4, SIX_A_MINUTE)).granted == 4
    share = await take(store, 4, SIX_A_MINUTE)
    assert share.granted == 2
    assert timedelta(0) < share.next_in <= timedelta(seconds=10)
    assert (await take(store, 1, SIX_A_MINUTE, "another")).granted == 1
    await make_earlier(raw, timedelta(seconds=21))
    assert (await take(store, 10, SIX_A_MINUTE)).granted == 2
    await make_earlier(raw, timedelta(days=1))
    assert (await take(store, 10, SIX_A_MINUTE)).granted == 6


async def test_a_quota_with_a_field_of_any_wrong_type_counts_as_a_fresh_one(
    store: Store, raw: AsyncDatabase[Document]
) -> None:
    both = Quota(submissions_per_minute=6, max_open_requests=5)
    for field in ("left", "at", "places", "places.0.token", "places.0.count", "places.0.until"):
        for name, value in VALUES.items():
            await raw["quotas"].delete_many({})
            await take(store, 1, both)
            await raw["quotas"].update_one({"_id": "acme"}, {"$set": {field: value}})
            share = await take(store, 1, both)
            assert share.granted in {0, 1}, (field, name)
            await take(store, 1, both)


async def test_a_clock_that_goes_back_takes_nothing_away(store: Store, raw: AsyncDatabase[Document]) -> None:
    await take(store, 2, SIX_A_MINUTE)
    await make_earlier(raw, -timedelta(minutes=10))
    assert (await take(store, 4, SIX_A_MINUTE)).granted == 4


async def test_what_was_given_back_can_be_taken_again(store: Store) -> None:
    await store.quotas.take("acme", 6, SIX_A_MINUTE, token="t")
    await store.quotas.give_back("acme", token="t", unused=2)
    assert (await take(store, 6, SIX_A_MINUTE)).granted == 2


async def test_of_many_who_take_at_once_just_as_many_get_something_as_there_is(store: Store) -> None:
    hundred = Quota(submissions_per_minute=100)
    began = time.monotonic()
    shares = await asyncio.gather(*(take(store, 7, hundred) for _ in range(40)))
    # Meanwhile it fills again.
    assert 100 <= sum(share.granted for share in shares) <= 101 + (time.monotonic() - began) / 0.6


async def test_places_of_others_are_seen_until_they_are_given_back_or_their_owner_is_dead(
    store: Store, raw: AsyncDatabase[Document]
) -> None:
    await store.quotas.take("acme", 3, ANY_RATE, token="first")
    assert (await take(store, 2, ANY_RATE)).underway_elsewhere == 3
    assert (await take(store, 1, ANY_RATE)).underway_elsewhere == 5
    await store.quotas.give_back("acme", token="first", unused=0)
    assert (await take(store, 1, ANY_RATE)).underway_elsewhere == 3
    await raw["quotas"].update_one({}, {"$set": {"places.$[].until": NOW}})
    assert (await take(store, 1, ANY_RATE)).underway_elsewhere == 0


async def test_a_name_that_looks_like_a_field_is_a_name(store: Store) -> None:
    for organization in ("$left", "$$NOW", "a.b"):
        assert (await take(store, 4, SIX_A_MINUTE, organization)).granted == 4
        assert (await take(store, 4, SIX_A_MINUTE, organization)).granted == 2


async def insert(store: Store, organization: str, *statuses: RequestStatus) -> None:
    for status in statuses:
        request = a_request(
            a_step("draft"),
            id=uuid.uuid4().hex,
            caller=Caller(organization_id=organization),
            status=status,
            finished_at=NOW if status.ended else None,
        )
        assert await store.requests.insert(request)


async def test_open_requests_are_counted_up_to_the_limit(store: Store) -> None:
    await store.quotas.prepare()
    await insert(store, "acme", *RequestStatus)
    await insert(store, "other", RequestStatus.ACCEPTED)
    assert await store.quotas.open_requests("acme", limit=10) == 2
    assert await store.quotas.open_requests("acme", limit=1) == 1
    assert await store.quotas.open_requests("nobody", limit=1) == 0


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda s: s.quotas.open_requests("acme", limit=10), ("open", 3, 0)),
        (lambda s: s.quotas.open_requests("busy", limit=10), ("open", 10, 0)),
        (lambda s: take(s, 1, SIX_A_MINUTE), ("_id_", 1, 1)),
        (lambda s: s.quotas.give_back("acme", token="t", unused=1), ("_id_", 1, 1)),
    ],
)
async def test_a_query_looks_at_exactly_what_it_is_about(
    recorded_store: Store,
    recorder: CommandRecorder,
    raw: AsyncDatabase[Document],
    run: Callable[[Store], Awaitable[object]],
    expected: tuple[str, int, int],
) -> None:
    await recorded_store.quotas.prepare()
    await insert(recorded_store, "acme", *[RequestStatus.ACCEPTED] * 3, *[RequestStatus.COMPLETED] * 30)
    await insert(recorded_store, "busy", *[RequestStatus.RUNNING] * 30)
    for organization in ("acme", "busy", "other"):
        await take(recorded_store, 1, SIX_A_MINUTE, organization)
    recorder.sent.clear()
    await run(recorded_store)
    [(_, command)] = recorder.sent
    [plan] = await explain(raw, command)
    assert not {"COLLSCAN", "SORT"} & set(plan.stages)
    assert (plan.indexes, plan.documents) == (frozenset({expected[0]}), expected[2])
    # Between two values of a list, and behind the last, the server looks at one further key.
    assert expected[1] <= plan.keys <= expected[1] + 2
