"""Reading requests: pages that together are the whole list, and waiting for an end."""

import asyncio
from datetime import timedelta
from time import monotonic

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import RequestNotFound, StoreUnavailable
from agent_service.domain.listing import InvalidListCursor, RequestFilter
from agent_service.domain.request import Caller, RequestStatus
from agent_service.request_reader import RequestReader
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.notifier import Topic
from tests.support.hand_worker import claim, end, success, work_off
from tests.support.open_subscriptions import silence
from tests.support.waiting import until

SERVICES = {"generation": 5, "analysis": 5}
LONG = timedelta(seconds=60)


@pytest.fixture
def service(store: Store) -> RequestService:
    return RequestService(store, max_attempts=SERVICES)


@pytest.fixture(params=["with notifications", "without"])
def any_hearing(store: Store, request: pytest.FixtureRequest) -> Store:
    if request.param == "without":
        silence(store)
    return store


async def submit(service: RequestService, *, wanted: bool = True, **caller: str) -> str:
    submission = {"service": "generation" if wanted else "analysis", "input": 1, "metadata": {"w": wanted}}
    accepted = await service.submit(submission, caller=Caller(**caller))
    return accepted.request.id


async def all_pages(
    reader: RequestReader, where: RequestFilter, *, limit: int, shortest: int = 0
) -> tuple[list[str], int]:
    """The ids on all pages, and how many pages that were."""
    ids: list[str] = []
    after, pages = None, 0
    while True:
        page = await reader.list("default", where, after=after, limit=limit)
        assert shortest <= len(page.requests) <= limit
        ids += [summary.request.id for summary in page.requests]
        pages += 1
        if page.next is None:
            return ids, pages
        assert page.next != after
        after = page.next


@pytest.mark.parametrize("limit", [1, 3, 5, 200])
async def test_the_pages_together_are_the_list(service: RequestService, store: Store, limit: int) -> None:
    ids = [await submit(service) for _ in range(5)]
    found, pages = await all_pages(RequestReader(store), RequestFilter(), limit=limit, shortest=1)
    assert found == ids[::-1]
    assert pages == -(-len(ids) // limit)


@pytest.mark.parametrize("limit", [1, 2, 200])
@pytest.mark.parametrize("most_looks", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "where", [RequestFilter(metadata={"w": "true"}), RequestFilter(service="generation")]
)
async def test_a_page_looks_at_so_many_and_the_next_one_goes_on(
    service: RequestService, store: Store, limit: int, most_looks: int, where: RequestFilter
) -> None:
    ids = [await submit(service, wanted=number in (0, 5, 6)) for number in range(8)]
    found, pages = await all_pages(RequestReader(store, most_looks=most_looks), where, limit=limit)
    assert found == [ids[6], ids[5], ids[0]]
    assert pages <= 2 + 3 // limit + 8 // most_looks


@pytest.mark.parametrize("limit", [1, 2, 200])
@pytest.mark.parametrize("most_looks", [1, 100])
async def test_what_runs_is_told_from_what_waits_before_a_step_has_ended(
    service: RequestService, store: Store, limit: int, most_looks: int
) -> None:
    ids = [await submit(service) for _ in range(6)]
    begun = {context.request_id for context in await claim(ContextManager(store), "generation", limit=2)}
    reader = RequestReader(store, most_looks=most_looks)
    for status, wanted in ((RequestStatus.RUNNING, begun), (RequestStatus.ACCEPTED, set(ids) - begun)):
        where = RequestFilter(statuses=frozenset({status}))
        found, _ = await all_pages(reader, where, limit=limit)
        assert found == sorted(wanted, reverse=True)
    every = await reader.list("default", RequestFilter(), after=None, limit=200)
    assert {s.request.id for s in every.requests if s.status is RequestStatus.RUNNING} == begun


async def test_pages_are_stable_while_requests_arrive_and_end(service: RequestService, store: Store) -> None:
    ids = [await submit(service) for _ in range(4)]
    first = await service.list(limit=2)
    await submit(service)
    await work_off(ContextManager(store))
    second = await service.list(limit=2, after=first.next)
    assert [s.request.id for s in (*first.requests, *second.requests)] == ids[::-1]
    assert {summary.status for summary in second.requests} == {RequestStatus.COMPLETED}


async def test_organizations_are_apart(service: RequestService) -> None:
    ours, theirs = await submit(service), await submit(service, organization_id="theirs")
    for organization_id, wanted in (("default", ours), ("theirs", theirs), ("nobody", None)):
        page = await service.list(organization_id=organization_id)
        assert [summary.request.id for summary in page.requests] == ([wanted] if wanted else [])


async def test_a_cursor_goes_only_with_its_filter_and_a_page_has_its_bounds(service: RequestService) -> None:
    for _ in range(2):
        await submit(service)
    page = await service.list(limit=1)
    with pytest.raises(InvalidListCursor):
        await service.list(RequestFilter(service="generation"), after=page.next)
    for limit in (0, 201):
        with pytest.raises(ValueError, match="1 to 200"):
            await service.list(limit=limit)


async def test_who_waits_is_woken_by_the_end_and_by_nothing_before(
    service: RequestService, any_hearing: Store
) -> None:
    request_id = await submit(service)
    waiting = asyncio.create_task(service.wait(request_id, organization_id="default", limit=LONG))
    contexts = ContextManager(any_hearing)
    [context] = await claim(contexts, "generation")
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done()
    began = monotonic()
    await end(contexts, context, success(contexts, context))
    assert await waiting
    assert monotonic() - began < LONG.total_seconds() / 2
    assert await service.wait(request_id, limit=timedelta(0))


async def test_with_notifications_nobody_asks_before_there_are_news(
    service: RequestService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.request_reader._LOOK_AFTER", LONG)
    request_id, other = await submit(service), await submit(service, wanted=False)
    looks = 0
    status = store.requests.status

    async def counted(wanted: str, *, organization_id: str | None = None) -> RequestStatus | None:
        nonlocal looks
        looks += 1
        return await status(wanted, organization_id=organization_id)

    monkeypatch.setattr(store.requests, "status", counted)
    with store.notifier.subscribe(Topic.STATUS):
        assert await store.notifier.opened(LONG)
        waiting = asyncio.create_task(service.wait(request_id, limit=LONG))
        is_first: bool = await until(lambda: looks == 1)
        assert is_first
        contexts = ContextManager(store)
        [unrelated] = await claim(contexts, "analysis")
        assert unrelated.request_id == other
        await end(contexts, unrelated, success(contexts, unrelated))
        [context] = await claim(contexts, "generation")
        assert looks == 1
        await end(contexts, context, success(contexts, context))
        assert await waiting
    assert looks == 2


async def test_who_waits_gives_up_in_time_and_outlives_an_outage(
    service: RequestService, any_hearing: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = await submit(service)
    assert not await service.wait(request_id, limit=timedelta(milliseconds=50))
    status = any_hearing.requests.status
    away = True

    async def perhaps(wanted: str, *, organization_id: str | None = None) -> RequestStatus | None:
        if away:
            raise StoreUnavailable("away")
        return await status(wanted, organization_id=organization_id)

    monkeypatch.setattr(any_hearing.requests, "status", perhaps)
    waiting = asyncio.create_task(service.wait(request_id, limit=LONG))
    await asyncio.wait({waiting}, timeout=0.1)
    away = False
    await work_off(ContextManager(any_hearing))
    assert await waiting


async def test_a_request_of_others_is_not_waited_for(service: RequestService) -> None:
    request_id = await submit(service, organization_id="theirs")
    for wanted in (request_id, "none"):
        with pytest.raises(RequestNotFound):
            await service.wait(wanted, organization_id="default", limit=LONG)
