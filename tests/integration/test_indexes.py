"""Every query that the store runs looks at exactly what it is about: the real commands, explained."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.listing import RequestFilter
from agent_service.domain.request import RequestStatus
from agent_service.domain.settling import Consequences
from agent_service.domain.stop import CANCELLED, DEADLINE
from agent_service.domain.transitions import lease_lost, released
from agent_service.store import Store
from agent_service.store.dead_callbacks import CallbackDelivery
from agent_service.store.dead_letters import FailedRequest
from agent_service.store.indexes import INDEXES
from agent_service.store.outcomes import Outcome
from agent_service.telemetry.metrics import QueueName
from tests.support.claiming import a_stretch
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_claim, a_context
from tests.support.explained_commands import Document, Watch
from tests.support.haystack import (
    CORRELATION_ID,
    LEASE,
    NEEDLES,
    needle_contexts,
    needle_id,
)

ENDED = needle_id("ended")
ENDS = needle_contexts("ended")
ENDED_CONTEXT = f"{ENDED}.draft"
RUNNING: Context = replace(a_context(request_id=needle_id("running")), lease=LEASE, attempt=1, tries=1)
FAILED = FailedRequest(id=ENDED, organization_id="default", step_names=("draft", "check", "note"))
DEAD = CallbackDelivery(
    request_id=needle_id("dead"),
    number=1,
    organization_id="default",
    status=ContextStatus.FAILED,
    error_code="gone",
    attempts=1,
    finished_at=NOW - SECOND,
    expires_at=NOW,
)
FAILED_ONES = RequestFilter(statuses=frozenset({RequestStatus.FAILED}))
RELATED = RequestFilter(correlation_id=CORRELATION_ID)
RELEASED = released(at=NOW)
LEASE_LOST = lease_lost(at=NOW, run_at=NOW, tries=1, max_attempts=5)
FOLLOWS = Consequences(releases=(("draft", "check"),), cancellations={"note": AN_ERROR})


async def read_what_settling_needs(store: Store) -> None:
    async with store.settlement.view() as view:
        ended = await view.ended(needle_contexts("ended"))
        plans, _ = await view.plans({context.request_id for context in ended})
        await view.statuses(plans)


@dataclass(frozen=True, kw_only=True)
class Query:
    """Something that the store does; for each statement, its index and how many documents it is about."""

    name: str
    run: Callable[[Store], Awaitable[Any]]
    statements: tuple[tuple[str, int], ...]


def query(name: str, run: Callable[[Store], Awaitable[Any]], *statements: tuple[str, int]) -> Query:
    return Query(name=name, run=run, statements=statements)


ALL = NEEDLES
QUERIES = [
    query("a single claim", lambda s: s.claims.claim_one(a_claim(), a_stretch()), ("lines", 1)),
    query(
        "a batch of claims",
        lambda s: s.claims.claim_many(a_claim(), needle_contexts("pending")[:3]),
        ("_id_", 3),
        ("_id_", 3),
    ),
    query("the depth of a queue", lambda s: s.claims.depth("generation", "fast"), ("lines", 0)),
    query("what waits in a line", lambda s: s.lines.waiting([a_stretch(limit=4)]), ("lines", 0)),
    query("the heads of lines", lambda s: s.lines.heads("generation", "default", 0), ("lines", 0)),
    query("a claim with a lost answer", lambda s: s.claims.find_claimed(LEASE), ("running", ALL)),
    query("the next time", lambda s: s.schedule.next_run_at(), ("due", 1)),
    query("what is due", lambda s: s.schedule.promote(NOW), ("due", ALL), *[("_id_", ALL)] * 3),
    query("expired leases", lambda s: s.leases.expired(NOW, limit=4), ("running", 4)),
    query(
        "a further page of expired leases",
        lambda s: s.leases.expired(NOW, after=(LEASE.expires_at, needle_contexts("running")[1])),
        ("running", ALL - 2),
        ("running", 0),
    ),
    query(
        "a renewal",
        lambda s: s.leases.renew(
            dict.fromkeys(needle_contexts("running"), LEASE.token), NOW, limit=10 * SECOND
        ),
        ("_id_", ALL),
        ("_id_", ALL),
    ),
    query("taking back", lambda s: s.leases.take_back(RUNNING, LEASE_LOST), ("_id_", 1)),
    query(
        "an outcome",
        lambda s: s.outcomes.apply([Outcome(context=RUNNING, transition=RELEASED)]),
        *[("_id_", 1)] * 3,
    ),
    query(
        "a look at leases",
        lambda s: s.leases.read(needle_contexts("running"), limit=10 * SECOND),
        ("_id_", ALL),
    ),
    query("unsettled contexts", lambda s: s.settlement.unsettled(NOW, limit=4), ("unsettled", 4)),
    query(
        "a further page of unsettled contexts",
        lambda s: s.settlement.unsettled(NOW, after=(NOW - SECOND, ENDS[1])),
        ("unsettled", ALL - 2),
        ("unsettled", 0),
    ),
    query("settling", read_what_settling_needs, ("_id_", ALL), ("_id_", ALL), ("_id_", 3 * ALL)),
    query(
        "consequences",
        lambda s: s.settlement.write_consequences({ENDED: FOLLOWS}, freed={}, at=NOW),
        *[("_id_", 1)] * 5,
    ),
    query(
        "the end of a request",
        lambda s: s.settlement.write_statuses({ENDED: RequestStatus.FAILED}, at=NOW, expires_at=NOW),
        ("_id_", 1),
    ),
    query(
        "what belongs to an ended request",
        lambda s: s.settlement.let_expire([ENDED], requests_expire_at=NOW),
        ("_id_", 20),
        ("_id_", 3),
    ),
    query(
        "settling what is all of its request",
        lambda s: s.settlement.settle_sole(ENDS, streamed=[ENDED], requests_expire_at=NOW),
        ("_id_", 20),
        ("_id_", ALL),
    ),
    query("asking to cancel", lambda s: s.cancellation.ask(needle_id("cancelling")), ("_id_", 1)),
    query("flagging", lambda s: s.cancellation.flag_contexts(ENDED, DEADLINE), ("_id_", 3)),
    query("ending", lambda s: s.cancellation.end_waiting(ENDED, CANCELLED, at=NOW), ("_id_", 3)),
    query(
        "requests that shall be cancelled",
        lambda s: s.cancellation.asked_for(limit=4),
        ("cancelling", 4),
    ),
    query(
        "a further page of requests that shall be cancelled",
        lambda s: s.cancellation.asked_for(after=(NOW - SECOND, needle_id("cancelling", 1))),
        ("cancelling", ALL - 2),
        ("cancelling", 0),
    ),
    query("overdue requests", lambda s: s.cancellation.overdue(NOW, limit=4), ("deadline", 4)),
    query(
        "a further page of overdue requests",
        lambda s: s.cancellation.overdue(NOW, after=(NOW - SECOND, needle_id("overdue", 1))),
        ("deadline", ALL - 2),
        ("deadline", 0),
    ),
    query("marking", lambda s: s.settlement.mark_settled(needle_contexts("ended")), ("_id_", ALL)),
    query("unplanned requests", lambda s: s.requests.unplanned([needle_id("unplanned")]), ("_id_", 1)),
    query("the ids of unplanned", lambda s: s.requests.unplanned_ids(NOW, limit=4), ("unplanned", 4)),
    query(
        "a further page of the ids of unplanned",
        lambda s: s.requests.unplanned_ids(NOW, after=(NOW - SECOND, needle_id("unplanned", 1))),
        ("unplanned", ALL - 2),
        ("unplanned", 0),
    ),
    query("failed requests", lambda s: s.dead_letters.failed(NOW, limit=4), ("failed", 4)),
    query(
        "a further page of failed requests",
        lambda s: s.dead_letters.failed(NOW, after=(NOW - SECOND, needle_id("failed", 1))),
        ("failed", ALL - 2),
        ("failed", 0),
    ),
    query("the failed steps of requests", lambda s: s.dead_letters.failed_steps([FAILED]), ("_id_", 3)),
    query(
        "keys that made a request",
        lambda s: s.dead_letters.taken_keys("default", ["key-ended-0", "key-ended-1"]),
        ("idempotency", 2),
    ),
    query("failed callbacks", lambda s: s.dead_callbacks.failed(NOW), ("others", ALL)),
    query(
        "a page of failed callbacks and the others of its last date",
        lambda s: s.dead_callbacks.failed(NOW, since=NOW - SECOND, limit=2),
        ("others", 2),
        ("others", ALL),
    ),
    query("callbacks that are delivered again", lambda s: s.dead_callbacks.followed([DEAD]), ("_id_", 0)),
    query(
        "the last deliveries of callbacks",
        lambda s: s.dead_callbacks.latest([DEAD.request_id, needle_id("dead", 1)]),
        ("_id_", 2),
    ),
    query("what a retry copies", lambda s: s.contexts.results(ENDED, ["draft"]), ("_id_", 1)),
    query(
        "a request by its idempotency key",
        lambda s: s.requests.by_idempotency_key("default", "key-ended-0"),
        ("idempotency", 1),
    ),
    query("the keys of an organization", lambda s: s.keys.all("acme"), ("organization", 0)),
    query("a request", lambda s: s.requests.get(ENDED, organization_id="default"), ("_id_", 1)),
    query("variables", lambda s: s.requests.variables(ENDED), ("_id_", 1)),
    query("planned", lambda s: s.requests.mark_planned([needle_id("unplanned")]), ("_id_", 1)),
    query("the contexts of a request", lambda s: s.contexts.of_request(ENDED), ("_id_", 3)),
    query("the progress of steps", lambda s: s.contexts.progress([f"{ENDED}.draft"]), ("_id_", 1)),
    query("the progress of a request", lambda s: s.requests.progress(ENDED), ("_id_", 1)),
    query("outputs", lambda s: s.contexts.outputs(ENDED, ["draft", "note"]), ("_id_", 2)),
    query("leftovers", lambda s: s.leftovers.find("events", f"{ENDED}/", after=needle_id("")), ("_id_", 20)),
    query(
        "letting leftovers expire",
        lambda s: s.leftovers.let_expire("events", [ENDED, needle_id("overdue")], NOW),
        ("_id_", 2),
    ),
    query(
        "what completed last",
        lambda s: s.statistics.latest(QueueName("generation", "default"), since=NOW - SECOND, limit=4),
        ("others", 4),
    ),
    query(
        "the newest requests of one status",
        lambda s: s.request_list.read("default", FAILED_ONES, before=None, down_to=None, limit=3),
        ("list", 4),
    ),
    query(
        "the newest requests with a correlation id",
        lambda s: s.request_list.read("default", RELATED, before=None, down_to=None, limit=9),
        ("correlation", ALL),
    ),
    query("the status of a request", lambda s: s.requests.status(ENDED), ("_id_", 1)),
    query("what has begun", lambda s: s.request_list.find_begun(ENDS), ("_id_", ALL)),
    query("how many chunks there are", lambda s: s.chunks.count(ENDED_CONTEXT, 1), ("_id_", 1)),
    query("chunks", lambda s: s.chunks.read(ENDED_CONTEXT, 1, after=3), ("_id_", 7)),
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
async def test_a_query_looks_at_exactly_the_documents_that_it_is_about(watch: Watch, query: Query) -> None:
    plans = await watch(query.run)
    assert [(*plan.indexes, plan.documents) for plan in plans] == list(query.statements)
    for plan in plans:
        assert not {"COLLSCAN", "SORT"} & set(plan.stages)
        if not plan.documents:
            # What is read from keys alone is counted where lines are tested.
            continue
        # Between two values of a list, and behind the last one, the server looks at one further key.
        listed = plan.indexes <= {"_id_", "idempotency", "running"}
        assert plan.documents <= plan.keys <= plan.documents * (2 if listed else 1)


def test_every_index_has_a_query_of_these_tests_or_removes_what_expired() -> None:
    assert {i.name for i in INDEXES if not i.expires} <= {name for q in QUERIES for name, _ in q.statements}


def test_no_index_names_the_version_of_a_document() -> None:
    """What an older version stored would be in another place than what this one looks for."""
    for index in INDEXES:
        assert "schema" not in index.keys
        assert "schema" not in (index.partial or {})


async def test_what_has_expired_is_removed_at_its_date(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    names = dict.fromkeys(("contexts", "requests", "events"), "expires") | {"workers": "expiry"}
    for collection, name in names.items():
        expiry = (await raw[collection].index_information())[name]
        assert expiry["key"] == [("expires_at", 1)]
        assert expiry["expireAfterSeconds"] == 0
