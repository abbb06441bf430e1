"""Failed deliveries of callbacks, page by page and latest first, and what came after them."""

from datetime import timedelta

import pytest

from agent_service.domain.callback import callback_id
from agent_service.domain.context import ContextStatus
from agent_service.domain.request import Caller
from agent_service.store import Store
from agent_service.store.dead_callbacks import CallbackDelivery
from tests.support.contexts import AN_ERROR, NOW, SECOND, a_context
from tests.support.worker_tools import Raw

AFTER_ALL = NOW + timedelta(minutes=1)
#: At which second each failed; three of them at once.
ENDS = (0, 1, 1, 1, 2)


async def insert(
    store: Store, request_id: str, number: int = 1, *, second: int = 0, **changes: object
) -> None:
    usual: dict[str, object] = {
        "service": "callback",
        "status": ContextStatus.FAILED,
        "error": AN_ERROR,
        "finished_at": NOW + second * SECOND,
        "expires_at": NOW + timedelta(days=8),
        "settled": True,
        "attempt": 4,
    }
    context = a_context(
        "callback", request_id=request_id, id=callback_id(request_id, number), **usual | changes
    )
    await store.contexts.insert([context])


async def insert_failed(store: Store) -> list[str]:
    """Requests whose callbacks failed at these seconds, latest first."""
    for number, second in enumerate(ENDS):
        await insert(store, f"r{number}", second=second)
    return ["r4", "r1", "r2", "r3", "r0"]


async def test_pages_follow_each_other_and_tear_nothing_of_one_date_apart(any_store: Store) -> None:
    ids = await insert_failed(any_store)
    for number, status in enumerate(
        (ContextStatus.PENDING, ContextStatus.COMPLETED, ContextStatus.CANCELLED)
    ):
        await insert(any_store, f"other{number}", status=status)
    for limit in (1, 2, 3, 100):
        seen: list[str] = []
        page = await any_store.dead_callbacks.failed(AFTER_ALL, limit=limit)
        while page.end is not None:
            seen += sorted(
                delivery.request_id for delivery in page if delivery.finished_at == NOW + 2 * SECOND
            )
            seen += sorted(delivery.request_id for delivery in page if delivery.finished_at == NOW + SECOND)
            seen += [delivery.request_id for delivery in page if delivery.finished_at == NOW]
            page = await any_store.dead_callbacks.failed(page.end[0], limit=limit)
        assert seen == ids


async def test_what_is_told_of_a_failed_delivery(any_store: Store) -> None:
    await insert(any_store, "r", 2, caller=Caller(organization_id="acme"))
    [delivery] = await any_store.dead_callbacks.failed(AFTER_ALL)
    assert delivery == CallbackDelivery(
        request_id="r",
        number=2,
        organization_id="acme",
        status=ContextStatus.FAILED,
        error_code=AN_ERROR.code,
        attempts=4,
        finished_at=NOW,
        expires_at=NOW + timedelta(days=8),
    )


async def test_an_odd_document_is_passed_over_and_ends_no_page(store: Store, raw: Raw) -> None:
    ids = await insert_failed(store)
    await raw.contexts.update_one({"_id": callback_id("r4")}, {"$unset": {"attempt": 1}})
    page = await store.dead_callbacks.failed(AFTER_ALL, limit=1)
    assert (list(page), page.end) == ([], (NOW + 2 * SECOND, callback_id("r4")))
    rest = await store.dead_callbacks.failed(NOW + 2 * SECOND)
    assert {delivery.request_id for delivery in rest} == set(ids[1:])


async def test_the_last_delivery_is_that_with_the_highest_number(any_store: Store) -> None:
    for number in range(1, 12):
        await insert(any_store, "r", number)
    await insert(any_store, "other")
    latest = await any_store.dead_callbacks.latest(["r", "none"])
    assert {request_id: delivery.number for request_id, delivery in latest.items()} == {"r": 11}
    page = await any_store.dead_callbacks.failed(AFTER_ALL)
    unfollowed = set(page) - await any_store.dead_callbacks.followed(page)
    assert {(delivery.request_id, delivery.number) for delivery in unfollowed} == {("r", 11), ("other", 1)}
    assert await any_store.dead_callbacks.latest([]) == {}


@pytest.mark.parametrize("schema", [0, 2])
async def test_failures_that_another_version_stored_are_found(store: Store, raw: Raw, schema: int) -> None:
    ids = await insert_failed(store)
    await raw["contexts"].update_many({}, {"$set": {"schema": schema}})
    found = await store.dead_callbacks.failed(AFTER_ALL)
    assert sorted(delivery.request_id for delivery in found) == sorted(ids)
