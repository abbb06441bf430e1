"""API keys in MongoDB: kept for good, and each query looks at nothing else."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.api_key import ApiKey, Scope
from agent_service.domain.errors import StoreError
from agent_service.store import Store
from tests.support.api_keys import a_key, stored_key
from tests.support.explained_commands import CommandRecorder, Document, explain

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


async def test_a_key_is_found_again_as_it_was(any_store: Store) -> None:
    key, _ = await stored_key(any_store, name="ci", scopes=[Scope.READ], expires_at=LATER, now=NOW)
    assert await any_store.keys.find(key.id) == key
    assert await any_store.keys.find("0" * 16) is None


async def test_revoking_keeps_the_key_and_the_time_of_the_first(store: Store) -> None:
    key, _ = await stored_key(store, now=NOW)
    revoked = replace(key, revoked_at=NOW)
    assert await store.keys.revoke(key.id, NOW) == revoked
    assert await store.keys.revoke(key.id, LATER) == revoked
    assert await store.keys.find(key.id) == revoked
    assert await store.keys.revoke("0" * 16, NOW) is None


async def test_the_latest_use_is_remembered(store: Store) -> None:
    key, _ = await stored_key(store, now=NOW)
    await store.keys.note_use(key.id, LATER)
    await store.keys.note_use(key.id, NOW)
    assert await store.keys.find(key.id) == replace(key, last_used_at=LATER)


async def test_keys_are_listed_by_organization(store: Store) -> None:
    assert not await store.keys.any_exist()
    keys = [(await stored_key(store, name, now=NOW))[0] for name in ("b", "a", "b")]
    assert await store.keys.any_exist()
    assert await store.keys.all() == sorted(keys, key=lambda key: (key.organization_id, key.id))
    assert {key.id for key in await store.keys.all("b")} == {keys[0].id, keys[2].id}


@pytest.mark.parametrize(
    "damage", [{"digest": None}, {"scopes": ["everything"]}, {"expires_at": "never"}, {"created_at": 1}]
)
async def test_a_key_that_somebody_spoilt_opens_nothing(
    store: Store, raw: AsyncDatabase[Document], damage: dict[str, Any]
) -> None:
    key, _ = await stored_key(store)
    await raw["keys"].update_one({"_id": key.id}, {"$set": damage})
    with pytest.raises(StoreError, match=key.id):
        await store.keys.find(key.id)


Looked = tuple[str, int, int]
QUERIES: list[tuple[Callable[[Store, ApiKey], Awaitable[object]], Looked]] = [
    (lambda s, key: s.keys.find(key.id), ("_id_", 1, 1)),
    (lambda s, _: s.keys.any_exist(), ("_id_", 1, 0)),
    (lambda s, key: s.keys.all(key.organization_id), ("organization", 1, 1)),
    (lambda s, _: s.keys.all(), ("organization", 50, 50)),
    (lambda s, key: s.keys.revoke(key.id, NOW), ("_id_", 1, 1)),
    (lambda s, key: s.keys.note_use(key.id, NOW), ("_id_", 1, 1)),
]


@pytest.mark.parametrize(("run", "expected"), QUERIES)
async def test_a_query_looks_at_exactly_the_keys_that_it_is_about(
    recorded_store: Store,
    recorder: CommandRecorder,
    raw: AsyncDatabase[Document],
    run: Callable[[Store, ApiKey], Awaitable[object]],
    expected: Looked,
) -> None:
    keys = [a_key(f"organization-{number}", now=NOW)[0] for number in range(50)]
    for key in keys:
        await recorded_store.keys.insert(key)
    recorder.sent.clear()
    await run(recorded_store, keys[25])
    [(_, command)] = recorder.sent
    [plan] = await explain(raw, command)
    assert not {"COLLSCAN", "SORT"} & set(plan.stages)
    [index] = plan.indexes
    # An equality on one value ends at the next key.
    assert (index, plan.documents) == (expected[0], expected[2])
    assert plan.keys in (expected[1], expected[1] + 1)
