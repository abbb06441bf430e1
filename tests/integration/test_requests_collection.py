"""Requests: one for each idempotency key, and nothing of another organization is ever shown."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.errors import UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.request import Caller, RequestStatus, Submission
from agent_service.store import Store
from agent_service.store.paging import Place
from tests.support.contexts import NOW, SECOND, a_request, a_step
from tests.support.explained_commands import CommandRecorder, Document, explain
from tests.support.fail_points import fragile_store


async def test_a_request_is_read_as_it_was_inserted(any_store: Store) -> None:
    request = a_request(
        a_step("one"),
        a_step("two", "one", service="analysis"),
        caller=Caller(organization_id="o", user_id="u", correlation_id="c", traceparent="00-1-2-01"),
        idempotency_key="key",
        retry_of="another",
    )
    assert await any_store.requests.insert(request)
    assert await any_store.requests.get(request.id) == request
    assert await any_store.requests.get(request.id, organization_id="o") == request
    assert await any_store.requests.get(request.id, organization_id="p") is None
    assert await any_store.requests.get("gone") is None


async def test_of_many_requests_with_one_key_exactly_one_is_taken(any_store: Store) -> None:
    requests = [a_request(idempotency_key="key") for _ in range(10)]
    taken = await asyncio.gather(*(any_store.requests.insert(request) for request in requests))
    assert taken.count(True) == 1
    first = requests[taken.index(True)]
    assert await any_store.requests.by_idempotency_key("default", "key") == first
    assert await any_store.requests.by_idempotency_key("default", "other") is None


async def test_a_key_belongs_to_its_organization_and_none_is_no_key(any_store: Store) -> None:
    for organization in ("one", "two"):
        caller = Caller(organization_id=organization)
        assert await any_store.requests.insert(a_request(caller=caller, idempotency_key="key"))
        for _ in range(2):
            assert await any_store.requests.insert(a_request(caller=caller))
        found = await any_store.requests.by_idempotency_key(organization, "key")
        assert found is not None
        assert found.caller == caller


@pytest.mark.parametrize("changes", [{"status": RequestStatus.CANCELLED}, {"cancel_requested": True}, {}])
async def test_planning_is_marked_however_the_request_stands(
    any_store: Store, changes: dict[str, Any]
) -> None:
    requests = [a_request(**changes), a_request(), a_request()]
    await any_store.requests.insert_many(requests)
    for _ in range(2):
        await any_store.requests.mark_planned([*(request.id for request in requests[:2]), "gone"])
        assert await any_store.requests.get(requests[0].id) == replace(requests[0], planned=True)
        assert await any_store.requests.get(requests[1].id) == replace(requests[1], planned=True)
        assert await any_store.requests.get(requests[2].id) == requests[2]


@pytest.mark.conformance
async def test_of_many_requests_those_are_told_whose_key_is_taken_and_all_others_are_inserted(
    any_store: Store,
) -> None:
    before, inserted = a_request(idempotency_key="before"), a_request(idempotency_key="own")
    assert await any_store.requests.insert_many([before]) == set()
    assert await any_store.requests.insert_many([inserted]) == set()
    keys = ["a", "before", None, "a", None]
    many = [a_request(idempotency_key=key) for key in keys]
    # What was inserted before, under its own id, is as if it had been inserted now.
    taken = await any_store.requests.insert_many([*many, inserted])
    assert taken == {many[1].id, many[3].id}
    for request in [before, inserted, *many]:
        found = await any_store.requests.get(request.id)
        assert found == (None if request.id in taken else request)


@pytest.mark.conformance
async def test_a_request_that_is_too_large_is_told_among_others_too(any_store: Store) -> None:
    large = Submission(steps=(a_step("one"),), variables={"a": "x" * 17_000_000})
    with pytest.raises(UnstorableValue):
        await any_store.requests.insert_many([a_request(), a_request(submission=large), a_request()])


async def test_marking_many_looks_at_no_others(
    recorded_store: Store, recorder: CommandRecorder, raw: AsyncDatabase[Document]
) -> None:
    requests = [a_request() for _ in range(50)]
    await recorded_store.requests.insert_many(requests)
    await recorded_store.requests.mark_planned([request.id for request in requests[10:13]])
    (command,) = recorder.named("update")
    (plan,) = await explain(raw, command)
    assert plan.indexes == {"_id_"}
    assert plan.documents == 3
    # A search for several ids looks once more between them.
    assert plan.keys <= 2 * 3


async def test_the_ids_of_unplanned_requests_are_paged_in_order_past_what_stays(any_store: Store) -> None:
    times = [NOW - 2 * SECOND, *[NOW - SECOND] * 5, NOW - SECOND / 2]
    unplanned = [a_request(created_at=at, deadline_at=at + timedelta(days=1)) for at in times]
    for request in [*reversed(unplanned), a_request(planned=True), a_request(created_at=NOW)]:
        await any_store.requests.insert(request)
    seen: list[Place] = []
    by_id = {request.id: request for request in unplanned}
    after: Place | None = None
    while page := await any_store.requests.unplanned_ids(NOW, after=after, limit=2):
        seen += [(by_id[request_id].created_at, request_id) for request_id in page]
        after = page.end
    assert all(one < other for one, other in pairwise(seen))
    assert {request_id for _, request_id in seen} == by_id.keys()


async def test_of_named_requests_those_are_read_that_are_not_planned(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    requests = [a_request(id=name, planned=name == "planned") for name in ("planned", "odd", "one", "other")]
    await any_store.requests.insert_many(requests)
    await raw.requests.update_one({"_id": "odd"}, {"$set": {"steps": 7}})
    found, odd = await any_store.requests.unplanned(["planned", "odd", "one", "gone"])
    assert found == [requests[2]]
    assert [each.document["_id"] for each in odd] == ["odd"]


async def test_variables_are_read_alone(any_store: Store) -> None:
    submission = Submission(steps=(a_step("one"),), variables={"a": {"b": [1]}})
    request = a_request(submission=submission)
    await any_store.requests.insert(request)
    assert await any_store.requests.variables(request.id) == {"a": {"b": [1]}}
    assert await any_store.requests.variables("gone") == {}


async def test_a_request_that_is_too_large_is_told(any_store: Store) -> None:
    submission = Submission(steps=(a_step("one"),), variables={"a": "x" * 17_000_000})
    with pytest.raises(UnstorableValue):
        await any_store.requests.insert(a_request(submission=submission))


async def test_what_is_inserted_in_a_transaction_of_the_caller_is_there_after_its_commit(
    mongodb_uri: str, store: Store, database_name: str
) -> None:
    async with AsyncMongoClient[Document](mongodb_uri) as client:
        mine = Store(client[database_name])
        kept, dropped = a_request(), a_request()
        async with client.start_session() as session:
            async with await session.start_transaction():
                assert await mine.requests.insert(kept, session=session)
                assert await store.requests.get(kept.id) is None
            await session.start_transaction()
            await mine.requests.insert(dropped, session=session)
            await session.abort_transaction()
    assert await store.requests.get(kept.id) == kept
    assert await store.requests.get(dropped.id) is None


async def test_an_insertion_whose_answer_is_lost_is_unknown_and_can_be_repeated(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    request = a_request(idempotency_key="key")
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        await point.fail("insert", writeConcernError={"code": 64, "errmsg": "waiting timed out"})
        with pytest.raises(WriteOutcomeUnknown):
            await fragile.requests.insert(request)
        await point.off()
        assert not await fragile.requests.insert(request)
        assert await fragile.requests.by_idempotency_key("default", "key") == request
