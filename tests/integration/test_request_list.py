"""Lists in the store: what matches, in which order, and that no page looks at more than it may."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.listing import RequestFilter
from agent_service.domain.request import Caller, Request, RequestStatus, Submission, new_request_id
from agent_service.store import Store
from tests.support.contexts import NOW, SECOND, a_request, a_step

Raw = AsyncDatabase[dict[str, Any]]


def stored(metadata: dict[str, Any] | None = None, *, service: str = "generation", **changes: Any) -> Request:
    submission = Submission(steps=(a_step("draft", service=service),), metadata=metadata or {})
    return a_request(**{"id": new_request_id(), "submission": submission, "deadline_at": NOW, **changes})


async def insert(store: Store, *requests: Request) -> list[str]:
    await store.requests.insert_many(requests)
    return [request.id for request in requests]


async def listed(store: Store, where: RequestFilter, *, looks: int = 100, limit: int = 100) -> list[str]:
    bound = await store.request_list.find_bound("default", where, before=None, looks=looks)
    found = await store.request_list.read("default", where, before=None, down_to=bound, limit=limit)
    return [request.id for request in found.requests]


async def test_the_newest_come_first_and_none_of_others(any_store: Store) -> None:
    first, second = await insert(any_store, stored(), stored({"a": "b"}))
    await insert(any_store, stored(caller=Caller(organization_id="theirs")))
    assert await listed(any_store, RequestFilter()) == [second, first]
    assert await listed(any_store, RequestFilter(metadata={"a": "b"}), looks=1) == [second]
    assert await any_store.request_list.find_begun([f"{first}.draft"]) == frozenset()


@pytest.mark.parametrize(
    ("metadata", "asked", "found"),
    [
        ({"order": "4711"}, {"order": "4711"}, True),
        ({"order": 4711}, {"order": "4711"}, True),
        ({"order": 4711.0}, {"order": "4711"}, True),
        ({"order": "4711", "paid": True}, {"order": "4711", "paid": "true"}, True),
        ({"order": "4711", "paid": False}, {"order": "4711", "paid": "true"}, False),
        ({"order": ["4710", "4711"]}, {"order": "4711"}, True),
        ({"order": {"id": "4711"}}, {"order": "4711"}, False),
        ({"order": 1}, {"order": "true"}, False),
        ({}, {"order": ""}, False),
        ({"order": None}, {"order": "null"}, False),
        ({"order": "$gt"}, {"order": "$gt"}, True),
        ({"order": "4711"}, {"order": '{"$ne": 1}'}, False),
        ({"order": "a.b"}, {"order": "a.b"}, True),
        ({"order": ".*"}, {"order": ".*"}, True),
        ({"order": "x"}, {"order": ".*"}, False),
        ({"Bestell Nr/ä": "1"}, {"Bestell Nr/ä": "1"}, True),
    ],
)
async def test_metadata_is_compared_as_plain_values(
    store: Store, metadata: dict[str, Any], asked: dict[str, str], found: bool
) -> None:
    ids = await insert(store, stored(metadata))
    await insert(store, stored({"other": "4711"}))
    assert await listed(store, RequestFilter(metadata=asked)) == (ids if found else [])


async def test_every_filter_narrows_and_all_of_them_hold_at_once(store: Store) -> None:
    # Ids have the time at which they are made, and a long run of tests began long before.
    now = datetime.now(UTC).replace(microsecond=0)
    usual: dict[str, Any] = {
        "created_at": now,
        "metadata": {"a": "1"},
        "service": "analysis",
        "status": RequestStatus.FAILED,
        "caller": Caller(user_id="ann", correlation_id="c"),
    }
    differences: Sequence[dict[str, Any]] = (
        {"metadata": {"a": "2"}},
        {"service": "generation"},
        {"status": RequestStatus.COMPLETED},
        {"caller": Caller(user_id="bob", correlation_id="c")},
        {"caller": Caller(user_id="ann", correlation_id="d")},
        {"caller": Caller(user_id="ann")},
        {"created_at": now - 10 * SECOND},
        {"created_at": now + 10 * SECOND},
    )
    [wanted, *_] = await insert(store, stored(**usual), *(stored(**(usual | other)) for other in differences))
    where = RequestFilter(
        metadata={"a": "1"},
        service="analysis",
        statuses=frozenset({RequestStatus.FAILED}),
        user_id="ann",
        correlation_id="c",
        created_after=now - SECOND,
        created_before=now + SECOND,
    )
    assert await listed(store, where) == [wanted]


async def test_times_are_those_of_the_server_although_ids_have_those_of_processes(store: Store) -> None:
    now = datetime.now(UTC)
    before, after = now - timedelta(seconds=30), now + timedelta(seconds=30)
    first, second = await insert(store, stored(created_at=before), stored(created_at=after))
    assert await listed(store, RequestFilter(created_before=now)) == [first]
    assert await listed(store, RequestFilter(created_after=now)) == [second]
    assert await listed(store, RequestFilter(created_after=before, created_before=after)) == []


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
async def test_a_time_that_no_id_can_hold_bounds_all_or_nothing(store: Store, at: datetime) -> None:
    ids = await insert(store, stored())
    earlier, later = RequestFilter(created_before=at), RequestFilter(created_after=at)
    assert await listed(store, earlier) + await listed(store, later) == ids


async def test_a_page_that_is_too_large_ends_early(store: Store) -> None:
    ids = await insert(store, *(stored({"text": "x" * 1_000_000}) for _ in range(8)))
    seen: list[str] = []
    before, more, pages = None, True, 0
    while more:
        found = await store.request_list.read(
            "default", RequestFilter(), before=before, down_to=None, limit=8
        )
        seen += [request.id for request in found.requests]
        before, more, pages = found.last, found.more, pages + 1
    assert seen == ids[::-1]
    assert pages == 2


async def test_only_what_has_begun_is_begun(store: Store) -> None:
    assert await store.request_list.find_begun([]) == frozenset()


async def test_an_odd_document_is_passed_over_and_does_not_hold_up_the_pages(store: Store, raw: Raw) -> None:
    ids = await insert(store, *(stored() for _ in range(3)))
    await raw.requests.update_one({"_id": ids[1]}, {"$unset": {"steps": 1}})
    first = await store.request_list.read("default", RequestFilter(), before=None, down_to=None, limit=2)
    assert ([request.id for request in first.requests], first.last, first.more) == ([ids[2]], ids[1], True)
    rest = await store.request_list.read("default", RequestFilter(), before=first.last, down_to=None, limit=2)
    assert ([request.id for request in rest.requests], rest.more) == ([ids[0]], False)


async def test_what_is_listed_is_what_was_stored_without_what_is_large(store: Store) -> None:
    request = stored({"a": [1, {"$ref": "x", "$id": 1}]}, caller=Caller(user_id="ann"))
    await insert(store, request)
    found = await store.request_list.read("default", RequestFilter(), before=None, down_to=None, limit=1)
    [step] = request.submission.steps
    small = dataclasses.replace(
        request.submission,
        steps=(dataclasses.replace(step, input=None),),
        deadline=request.deadline_at - request.created_at,
    )
    assert found.requests == [dataclasses.replace(request, submission=small)]
