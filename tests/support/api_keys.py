"""API keys for tests: made and stored, with their texts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from agent_service.domain.api_key import ApiKey, Scope, make_key
from agent_service.store import Store

EVERY_SCOPE = frozenset(Scope)


def a_key(organization_id: str = "acme", **changes: Any) -> tuple[ApiKey, str]:
    """A fresh key with all scopes, and its text."""
    options: dict[str, Any] = {
        "scopes": EVERY_SCOPE,
        "now": datetime.now(UTC).replace(microsecond=0),
        **changes,
    }
    return make_key(organization_id, **options)


async def stored_key(store: Store, organization_id: str = "acme", **changes: Any) -> tuple[ApiKey, str]:
    """A key that is kept in MongoDB, and its text."""
    key, text = a_key(organization_id, **changes)
    await store.keys.insert(key)
    return key, text


async def expired_key(store: Store) -> str:
    """The text of a key that has expired."""
    return (await stored_key(store, expires_at=datetime.now(UTC) - timedelta(seconds=1)))[1]


async def revoked_key(store: Store) -> str:
    """The text of a key that was revoked."""
    key, text = await stored_key(store)
    await store.keys.revoke(key.id, datetime.now(UTC))
    return text


def bearing(text: str) -> dict[str, str]:
    """The headers of a call with a key."""
    return {"Authorization": f"Bearer {text}"}
