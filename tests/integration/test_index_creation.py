"""Indexes are created once, and what is in their way is told."""

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.errors import StoreError
from agent_service.store import Store
from agent_service.store.indexes import INDEXES, create_indexes, missing_indexes
from tests.support.contexts import a_request, a_step
from tests.support.explained_commands import Document


@pytest.mark.fresh_database
async def test_each_index_is_missing_until_it_is_created(raw: AsyncDatabase[Document]) -> None:
    assert await missing_indexes(raw) == INDEXES
    await create_indexes(raw)
    await create_indexes(raw)
    assert await missing_indexes(raw) == ()


@pytest.mark.parametrize(
    "different",
    [
        {"keys": ["service", "queue", "_id"], "partialFilterExpression": {"status": "pending"}},
        {"keys": ["service", "queue", "priority", "rank", "_id"]},
        {
            "keys": ["service", "queue", "priority", "rank", "_id"],
            "partialFilterExpression": {"status": "running"},
        },
    ],
)
async def test_an_index_of_the_same_name_that_is_different_is_told_and_not_waited_for(
    store: Store, raw: AsyncDatabase[Document], different: Document
) -> None:
    await raw["contexts"].drop_index("lines")
    options = {key: value for key, value in different.items() if key != "keys"}
    await raw["contexts"].create_index([(key, 1) for key in different["keys"]], name="lines", **options)
    assert [index.name for index in await missing_indexes(raw)] == ["lines"]
    with pytest.raises(StoreError, match="refused"):
        await create_indexes(raw)


async def test_documents_that_a_unique_index_forbids_are_told(
    store: Store, raw: AsyncDatabase[Document]
) -> None:
    await raw["requests"].drop_index("idempotency")
    for _ in range(2):
        assert await store.requests.insert(a_request(a_step("draft"), idempotency_key="twice"))
    with pytest.raises(StoreError, match="requests"):
        await create_indexes(raw)
