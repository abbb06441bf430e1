"""Paging: every document is seen once, whatever the size of the pages and however many share a date."""

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.driver import Document
from agent_service.store.paging import Place, read_page
from tests.support.contexts import NOW, SECOND, a_context, insert_claimed


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 100])
async def test_all_pages_together_are_everything_once_and_in_order(
    store: Store, raw: AsyncDatabase[Document], limit: int
) -> None:
    places = [(NOW + day * SECOND, f"{name}") for day in range(3) for name in "dbca"]
    things = raw["things"]
    wanted = [{"_id": f"{at.second}-{name}", "at": at, "kind": 1} for at, name in places]
    others = [
        {"_id": "other", "at": NOW, "kind": 2},
        {"_id": "at the limit", "at": NOW + 3 * SECOND, "kind": 1},
        {"_id": "later", "at": NOW + 9 * SECOND, "kind": 1},
    ]
    await things.insert_many([*wanted, *others])
    seen: list[Place] = []
    after: Place | None = None
    while page := await read_page(
        things, {"kind": 1}, "at", before=NOW + 3 * SECOND, after=after, limit=limit
    ):
        assert len(page) <= limit
        seen += [(document["at"], document["_id"]) for document in page]
        after = seen[-1]
    assert seen == sorted((document["at"], document["_id"]) for document in wanted)


async def test_what_went_away_meanwhile_is_not_missed_and_hides_nothing(
    store: Store, raw: AsyncDatabase[Document]
) -> None:
    things = raw["things"]
    await things.insert_many({"_id": name, "at": NOW, "large": "x"} for name in "abcd")
    first = await read_page(things, {}, "at", before=NOW + SECOND, after=None, limit=2, projection={"at": 1})
    assert first == [{"_id": "a", "at": NOW}, {"_id": "b", "at": NOW}]
    await things.delete_many({"_id": {"$in": ["a", "b"]}})
    rest = await read_page(things, {}, "at", before=NOW + SECOND, after=(NOW, "b"), limit=2)
    assert [document["_id"] for document in rest] == ["c", "d"]


async def test_documents_that_cannot_be_decoded_are_passed_over_and_end_no_walk(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    contexts = [a_context(request_id=name, service=name) for name in "abcd"]
    await insert_claimed(any_store, contexts, expires_at=NOW - SECOND)
    # By hand, or by another version: one in the midst of a page, then a whole page of them.
    await raw["contexts"].update_one({"_id": "a.draft"}, {"$unset": {"service": 1}})
    await raw["contexts"].update_many({"_id": {"$in": ["c.draft", "d.draft"]}}, {"$set": {"history": [1]}})
    first = await any_store.leases.expired(NOW, limit=2)
    assert ([context.id for context in first], first.end) == (["b.draft"], (NOW - SECOND, "b.draft"))
    second = await any_store.leases.expired(NOW, after=first.end, limit=2)
    assert (list(second), second.end) == ([], (NOW - SECOND, "d.draft"))
    last = await any_store.leases.expired(NOW, after=second.end, limit=2)
    assert (list(last), last.end) == ([], None)
