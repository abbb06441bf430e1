"""How the server runs lists: statuses are merged in order, bounds read no document, and nothing is sorted."""

from datetime import timedelta

import pytest

from agent_service.domain.listing import RequestFilter
from agent_service.domain.request import RequestStatus
from agent_service.request_reader import RequestReader
from agent_service.store import Store
from tests.support.contexts import NOW
from tests.support.explained_commands import Watch
from tests.support.haystack import CORRELATION_ID, NEEDLES, needle_id

#: The organization of every fifth request of the haystack; most of them run.
ORGANIZATION = "organization-1"

STATUSES = len(RequestStatus)
NONE_MATCHES = RequestFilter(metadata={"a": "b"}, service="analysis", user_id="ann", created_after=NOW)


@pytest.mark.parametrize(
    "where",
    [
        RequestFilter(),
        RequestFilter(statuses=frozenset({RequestStatus.FAILED, RequestStatus.COMPLETED})),
    ],
)
async def test_a_page_of_several_statuses_looks_at_what_it_shows(watch: Watch, where: RequestFilter) -> None:
    async def run(store: Store) -> None:
        page = await RequestReader(store).list(ORGANIZATION, where, after=None, limit=20)
        assert len(page.requests) == 20
        following = await RequestReader(store).list(ORGANIZATION, where, after=page.next, limit=20)
        assert len(following.requests) == 20

    plans = await watch(run)
    assert len(plans) == 2
    for plan in plans:
        assert not {"COLLSCAN", "SORT"} & set(plan.stages)
        assert plan.indexes == {"list"}
        assert plan.documents == 21
        # Each status shows its first, of which the others are left over.
        assert plan.documents <= plan.keys <= plan.documents + STATUSES


@pytest.mark.parametrize(
    "where",
    [
        NONE_MATCHES,
        RequestFilter(service="analysis"),
        RequestFilter(metadata={"a": "1"}),
        RequestFilter(user_id="ann"),
        RequestFilter(created_before=NOW - timedelta(days=1)),
    ],
)
async def test_what_no_index_knows_is_looked_for_in_so_many_requests(
    watch: Watch, where: RequestFilter
) -> None:
    async def run(store: Store) -> None:
        page = await RequestReader(store, most_looks=50).list(ORGANIZATION, where, after=None, limit=20)
        assert page.requests == ()

    bound, page = await watch(run)
    for plan in (bound, page):
        assert plan.indexes == {"list"}
        assert not {"COLLSCAN", "SORT"} & set(plan.stages)
        assert plan.keys <= 50 + STATUSES
    assert bound.documents == 0
    assert page.documents <= 50


async def test_the_status_that_contexts_decide_is_looked_for_in_so_many_requests(watch: Watch) -> None:
    where = RequestFilter(statuses=frozenset({RequestStatus.RUNNING}))

    async def run(store: Store) -> None:
        page = await RequestReader(store, most_looks=10).list("default", where, after=None, limit=20)
        assert page.next is not None

    bound, page, begun = await watch(run)
    assert (*bound.indexes, bound.documents) == ("list", 0)
    assert (*page.indexes, page.documents) == ("list", 10)
    assert begun.indexes <= {"_id_"}
    assert begun.documents <= 10
    assert not {"COLLSCAN", "SORT"} & {*bound.stages, *page.stages, *begun.stages}


async def test_deleting_what_an_organization_has_looks_at_a_page_of_its_requests(watch: Watch) -> None:
    async def run(store: Store) -> None:
        assert len(await store.purging.requests_of(ORGANIZATION, "~", now=NOW, limit=20)) == 20

    (plan,) = await watch(run)
    assert plan.indexes == {"list"}
    assert not {"COLLSCAN", "SORT"} & set(plan.stages)
    assert plan.documents == 20
    assert plan.keys <= 20 + STATUSES


async def test_a_correlation_id_with_other_conditions_is_bounded_too(watch: Watch) -> None:
    where = RequestFilter(correlation_id=CORRELATION_ID, statuses=frozenset({RequestStatus.FAILED}))

    async def run(store: Store) -> None:
        page = await RequestReader(store, most_looks=4).list("default", where, after=None, limit=20)
        assert [s.request.id for s in page.requests] == [needle_id("failed", n) for n in (5, 4, 3, 2)]
        assert page.next is not None

    bound, page = await watch(run)
    assert (*bound.indexes, bound.documents) == ("correlation", 0)
    assert bound.keys <= 4
    assert page.documents <= NEEDLES
    assert page.indexes <= {"correlation", "list"}
    assert not {"COLLSCAN", "SORT"} & {*bound.stages, *page.stages}
