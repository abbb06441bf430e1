"""Failed requests, page by page in the order of their ends, and what failed in each."""

from dataclasses import replace

from agent_service.domain.context import ContextStatus
from agent_service.domain.request import Caller, RequestStatus
from agent_service.store import Store
from agent_service.store.dead_letters import FailedStep
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_request, a_step, ended_context
from tests.support.worker_tools import Raw

ENDS = (0, 1, 1, 1, 2)


async def insert_failed(store: Store) -> list[str]:
    """Requests that failed at these seconds; the ids in the order of (end, id)."""
    ids = []
    for number, second in enumerate(ENDS):
        request = a_request(
            a_step("draft"),
            id=f"r{number}",
            status=RequestStatus.FAILED,
            finished_at=NOW + second * SECOND,
            caller=Caller(organization_id="even" if number % 2 == 0 else "odd"),
        )
        assert await store.requests.insert(request)
        ids.append(request.id)
    return ids


async def test_pages_follow_each_other_across_equal_ends(any_store: Store) -> None:
    ids = await insert_failed(any_store)
    for others in (RequestStatus.RUNNING, RequestStatus.COMPLETED, RequestStatus.CANCELLED):
        await any_store.requests.insert(a_request(status=others, finished_at=NOW))
    seen: list[str] = []
    page = await any_store.dead_letters.failed(NOW + 3 * SECOND, limit=2)
    while page.end is not None:
        seen += [request.id for request in page]
        page = await any_store.dead_letters.failed(NOW + 3 * SECOND, after=page.end, limit=2)
    assert seen == ids


async def test_only_ends_between_the_times_and_of_the_organization_are_read(store: Store) -> None:
    await insert_failed(store)
    letters = store.dead_letters
    since = await letters.failed(NOW + 3 * SECOND, since=NOW + SECOND)
    assert [request.id for request in since] == ["r1", "r2", "r3", "r4"]
    both = await letters.failed(NOW + 2 * SECOND, since=NOW + SECOND, organization_id="odd")
    assert [(request.id, request.organization_id) for request in both] == [("r1", "odd"), ("r3", "odd")]
    assert await letters.failed(NOW) == []


async def test_an_odd_document_is_passed_over(store: Store, raw: Raw) -> None:
    await insert_failed(store)
    await raw.requests.update_one({"_id": "r0"}, {"$unset": {"steps": 1}})
    page = await store.dead_letters.failed(NOW + SECOND)
    assert page == []
    assert page.end == (NOW, "r0")


async def test_what_failed_is_told_with_its_service_and_code(store: Store) -> None:
    request = a_request(
        a_step("draft"),
        a_step("check", "draft"),
        a_step("note"),
        status=RequestStatus.FAILED,
        finished_at=NOW,
    )
    await store.requests.insert(request)
    failed = ended_context(request_id=request.id, status=ContextStatus.FAILED, error=AN_ERROR)
    cancelled = ended_context("check", request_id=request.id, status=ContextStatus.CANCELLED, error=AN_ERROR)
    bare = replace(failed, id=f"{request.id}.note", step="note", service="analysis", error=None)
    await store.contexts.insert([failed, cancelled, bare])
    page = await store.dead_letters.failed(NOW + SECOND)
    assert await store.dead_letters.failed_steps(page) == [
        FailedStep(request_id=request.id, step="draft", service="generation", error_code=AN_ERROR.code),
        FailedStep(request_id=request.id, step="note", service="analysis", error_code=""),
    ]
    assert await store.dead_letters.failed_steps([]) == []


async def test_keys_that_made_a_request_are_known_for_their_organization(store: Store) -> None:
    await store.requests.insert(a_request(idempotency_key="one"))
    await store.requests.insert(a_request(idempotency_key="two", caller=Caller(organization_id="other")))
    assert await store.dead_letters.taken_keys("default", ["one", "two", "three"]) == {"one"}
