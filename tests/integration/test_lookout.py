"""One look finds every kind of need, at the cost of one key of an index for each; and sees who is there."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.context import ContextStatus
from agent_service.store import Store
from agent_service.store.lookout import Need
from agent_service.store.roster import Colleague
from agent_service.store.workers import SILENT_AFTER, SignOfLife
from tests.support.claiming import claim_one
from tests.support.contexts import NOW, SECOND, a_claim, a_context, a_lease, a_request, ended_context
from tests.support.explained_commands import CommandRecorder, Document
from tests.support.fleets import a_sign_at

LATER = NOW + timedelta(minutes=1)
GRACE = timedelta(seconds=5)


def sign(name: str, *, age: timedelta = timedelta(0)) -> SignOfLife:
    return a_sign_at(NOW - age, id=name, queues=("default", "night"))


async def needs(store: Store) -> set[Need]:
    return set((await store.lookout.look(NOW, grace=GRACE)).needs)


async def test_where_all_is_well_there_is_nothing_to_do(any_store: Store) -> None:
    assert await needs(any_store) == set()
    await any_store.contexts.insert(
        [
            a_context(),
            a_context(status=ContextStatus.SCHEDULED, run_at=LATER),
            # Whoever sleeps until then is about to promote it.
            a_context(status=ContextStatus.SCHEDULED, run_at=NOW),
            a_context(status=ContextStatus.BLOCKED),
            # Whoever wrote its end is about to do the rest.
            ended_context(finished_at=NOW - SECOND),
        ]
    )
    assert await any_store.requests.insert(a_request())
    assert await claim_one(any_store, a_claim(lease=a_lease(expires_at=LATER)))
    assert await needs(any_store) == set()


async def test_a_lease_that_ended_is_a_need(any_store: Store) -> None:
    await any_store.contexts.insert([a_context()])
    assert await claim_one(any_store, a_claim(lease=a_lease(expires_at=NOW - SECOND)))
    assert await needs(any_store) == {Need.LEASES}


async def test_an_end_that_nobody_settled_is_a_need(any_store: Store) -> None:
    await any_store.contexts.insert([ended_context(finished_at=NOW - 2 * GRACE)])
    assert await needs(any_store) == {Need.SETTLING}


async def test_what_nobody_promoted_is_a_need(any_store: Store) -> None:
    await any_store.contexts.insert([a_context(status=ContextStatus.SCHEDULED, run_at=NOW - 2 * SECOND)])
    assert await needs(any_store) == {Need.PROMOTING}


@pytest.mark.parametrize(
    ("changes", "need"),
    [
        ({"cancel_requested": True}, Need.CANCELLING),
        ({"deadline_at": NOW - SECOND}, Need.DEADLINES),
        ({"created_at": NOW - 2 * SECOND}, Need.PLANNING),
    ],
)
async def test_a_request_that_nobody_saw_to_is_a_need(
    any_store: Store, changes: dict[str, Any], need: Need
) -> None:
    assert await any_store.requests.insert(a_request(**changes))
    assert await needs(any_store) == {need}


async def test_it_sees_the_workers_that_gave_a_sign_of_life(any_store: Store) -> None:
    await any_store.workers.report(sign("here"))
    await any_store.workers.report(sign("still here", age=SILENT_AFTER - SECOND))
    await any_store.workers.report(sign("gone", age=SILENT_AFTER + SECOND))
    look = await any_store.lookout.look(NOW, grace=GRACE)
    queues = frozenset({"default", "night"})
    assert set(look.present) == {
        Colleague(id=name, service="generation", queues=queues, process="host:7")
        for name in ("here", "still here")
    }
    assert set(await any_store.workers.present(NOW)) == set(look.present)


async def test_an_odd_sign_of_life_hides_nobody(store: Store, raw: Any) -> None:
    await raw.workers.insert_one({"_id": "odd", "expires_at": NOW + timedelta(days=1)})
    await store.workers.report(sign("here"))
    look = await store.lookout.look(NOW, grace=GRACE)
    assert [one.id for one in look.present] == ["here"]


@pytest.fixture
async def looked(mongodb_uri: str, haystack: str) -> tuple[set[Need], Document]:
    """The needs that one look found in the haystack, and how the server explains that look."""
    recorder = CommandRecorder()
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder]) as client:
        store = Store(client[haystack])
        await store.workers.report(sign("here"))
        recorder.sent.clear()
        found = set((await store.lookout.look(NOW + SECOND, grace=timedelta(0))).needs)
        ((name, command),) = recorder.sent
        assert name == "aggregate"
        bare = {key: command[key] for key in ("aggregate", "pipeline", "cursor")}
        answer = await client[haystack].command({"explain": bare, "verbosity": "executionStats"})
    return found, answer


def cursors(explained: Any) -> Iterator[Document]:
    """The `$cursor` stages of an explained pipeline and of those inside it, in their order."""
    if isinstance(explained, dict):
        if "$cursor" in explained:
            yield explained["$cursor"]
            return
        for value in explained.values():
            yield from cursors(value)
    elif isinstance(explained, list):
        for value in explained:
            yield from cursors(value)


def indexes(plan: Any) -> Iterator[str]:
    if isinstance(plan, dict):
        if "indexName" in plan:
            yield plan["indexName"]
        yield from (name for value in plan.values() for name in indexes(value))
    elif isinstance(plan, list):
        yield from (name for value in plan for name in indexes(value))


async def test_it_looks_at_one_key_of_an_index_for_each_need(looked: tuple[set[Need], Document]) -> None:
    found, answer = looked
    assert found == set(Need)
    examined = []
    for cursor in cursors(answer):
        stats, plan = cursor["executionStats"], cursor["queryPlanner"]["winningPlan"]
        assert "COLLSCAN" not in str(plan)
        assert stats["totalDocsExamined"] <= stats["totalKeysExamined"]
        examined.append((*set(indexes(plan)), stats["totalKeysExamined"]))
    assert examined == [
        ("running", 1),
        ("unsettled", 1),
        ("due", 1),
        ("cancelling", 1),
        ("deadline", 1),
        ("unplanned", 1),
        ("expiry", 1),
    ]
