"""Which keys open the API: those of the file and of MongoDB, and what follows from not knowing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.errors import ConfigurationError, StoreUnavailable
from agent_service.keys.key_file import KeyFile
from agent_service.keys.key_ring import KeyRing
from agent_service.settings import ApiSettings
from agent_service.store import Store
from tests.support.api_keys import a_key, expired_key, revoked_key, stored_key
from tests.support.explained_commands import CommandRecorder, Document

AT_ONCE = timedelta(0)
NOBODY = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50"


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "api_keys.jsonl")


@pytest.fixture
async def nobody() -> AsyncIterator[Store]:
    """A store whose MongoDB does not answer."""
    async with Store.connect(NOBODY) as store:
        yield store


def wrong_secret(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


async def test_a_key_of_either_place_opens_and_no_other_does(store: Store, file: KeyFile) -> None:
    kept, kept_text = await stored_key(store)
    filed, filed_text = a_key("other")
    file.add(filed)
    ring = KeyRing(store, file=file)
    assert await ring.find(kept_text) == kept
    assert await ring.find(filed_text) == filed
    refused = [a_key()[1], wrong_secret(kept_text), wrong_secret(filed_text), "", "no key"]
    refused += [await expired_key(store), await revoked_key(store)]
    assert [await ring.find(text) for text in refused] == [None] * len(refused)


async def test_two_keys_of_one_organization_live_side_by_side_until_one_is_revoked(store: Store) -> None:
    ring = KeyRing(store, fresh=AT_ONCE)
    (old, old_text), (_, new_text) = await stored_key(store), await stored_key(store)
    assert await ring.find(old_text) is not None
    assert await ring.find(new_text) is not None
    await store.keys.revoke(old.id, datetime.now(UTC))
    assert await ring.find(old_text) is None
    assert await ring.find(new_text) is not None


async def test_a_key_that_was_revoked_in_the_file_opens_nothing_any_more(store: Store, file: KeyFile) -> None:
    key, text = a_key()
    file.add(key)
    ring = KeyRing(store, file=KeyFile(file.path))
    assert await ring.find(text) == key
    file.revoke(key.id, datetime.now(UTC))
    assert await ring.find(text) is None


async def test_a_key_that_expires_while_it_is_remembered_opens_nothing_any_more(store: Store) -> None:
    now = datetime.now(UTC)
    ring = KeyRing(store, wall_clock=lambda: now)
    _, text = await stored_key(store, expires_at=now + timedelta(minutes=1))
    assert await ring.find(text) is not None
    now += timedelta(minutes=1)
    assert await ring.find(text) is None


async def test_a_key_is_looked_up_once_in_a_while_and_its_use_noted(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    key, text = await stored_key(recorded_store)
    ring = KeyRing(recorded_store)
    recorder.sent.clear()
    for _ in range(50):
        assert await ring.find(text) is not None

    await recorded_store.calls.finish()
    assert [command["filter"] for command in recorder.named("find")] == [{"_id": key.id}]
    assert len(recorder.named("update")) == 1
    found = await recorded_store.keys.find(key.id)
    assert found is not None
    assert found.last_used_at is not None


async def test_a_file_works_without_mongodb(nobody: Store, file: KeyFile) -> None:
    key, text = a_key()
    file.add(key)
    ring = KeyRing(nobody, file=file)
    assert await ring.find(text) == key
    assert not await ring.anonymous_allowed()
    with pytest.raises(StoreUnavailable):
        await ring.find(a_key()[1])


async def test_while_the_file_is_wrong_its_keys_are_not_refused_but_cannot_be_judged(
    store: Store, file: KeyFile, warnings: list[str]
) -> None:
    key, text = a_key()
    file.add(key)
    _, kept_text = await stored_key(store)
    ring = KeyRing(store, file=file)
    right = file.path.read_text(encoding="utf-8")
    file.path.write_text("{", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await ring.find(text)
    assert await ring.find(kept_text) is not None
    assert not await ring.anonymous_allowed()
    assert len(warnings) == 1
    assert "line 1 is no API key" in warnings[0]
    file.path.write_text(right, encoding="utf-8")
    assert await ring.find(text) == key


async def test_nobody_gets_in_without_a_key_while_it_is_not_known_that_there_are_none(nobody: Store) -> None:
    with pytest.raises(StoreUnavailable):
        await KeyRing(nobody).anonymous_allowed()


async def test_once_the_first_key_is_made_nobody_gets_in_without_one_for_good(
    store: Store, raw: AsyncDatabase[Document], warnings: list[str]
) -> None:
    ring = KeyRing(store, fresh=AT_ONCE)
    assert await ring.anonymous_allowed()
    await revoked_key(store)
    assert not await ring.anonymous_allowed()
    assert "nobody is served without one" in warnings[0]
    await raw["keys"].drop()
    assert not await ring.anonymous_allowed()


async def test_keys_can_be_asked_for_before_there_are_any(store: Store, file: KeyFile) -> None:
    assert not await KeyRing(store, required=True).anonymous_allowed()
    settings = ApiSettings(keys_file=file.path)
    with pytest.raises(ConfigurationError, match="API_KEYS_FILE"):
        KeyRing.of(settings, store)
    file.path.touch()
    assert not await KeyRing.of(settings, store).anonymous_allowed()
    assert await KeyRing.of(ApiSettings(), store).anonymous_allowed()
