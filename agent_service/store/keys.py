"""Keys: the API keys in MongoDB, in the collection `keys`; they are revoked, and never removed."""

from datetime import datetime, timedelta
from typing import Any

from loguru import logger
from pymongo import ReturnDocument

from agent_service.domain.api_key import ApiKey, Scope
from agent_service.domain.errors import StoreError
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading, writing

#: The call that a key came with has yet to be done, and its caller waits.
_LOOK_LIMIT = timedelta(seconds=2)


class KeyCollection:
    """The collection `keys`; that a key is there, and that it was revoked, counts once a majority has it."""

    def __init__(self, database: Database) -> None:
        self._keys = durable(database, "keys")
        self._committed = durable(database, "keys", read="majority")

    async def insert(self, key: ApiKey) -> None:
        """Store a fresh key. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing(CALLER_LIMIT):
            await self._keys.insert_one(_document_of(key))

    async def find(self, key_id: str) -> ApiKey | None:
        """The key with this id, whatever its state. Raises `StoreUnavailable`, or `StoreError`."""
        with reading(_LOOK_LIMIT):
            document = await self._committed.find_one({"_id": key_id})
        return None if document is None else _key_of(document)

    async def any_exist(self) -> bool:
        """Whether a key was ever made here. Raises `StoreUnavailable`."""
        with reading(_LOOK_LIMIT):
            return await self._committed.find_one({}, {"_id": 1}, sort=[("_id", 1)]) is not None

    async def all(self, organization_id: str | None = None) -> list[ApiKey]:
        """
        All keys that can be read, or those of one organization, by organization; the others are logged.

        Raises `StoreUnavailable`.
        """
        wanted = {} if organization_id is None else {"organization_id": organization_id}
        with reading(CALLER_LIMIT):
            found = self._committed.find(wanted, sort=[("organization_id", 1), ("_id", 1)])
            documents = await found.to_list(None)
        keys = []
        for document in documents:
            try:
                keys.append(_key_of(document))
            except StoreError as error:
                logger.error("{}", error)
        return keys

    async def revoke(self, key_id: str, now: datetime) -> ApiKey | None:
        """
        End a key for good, unless it was revoked before; returns it, or None where there is none.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with writing(CALLER_LIMIT):
            document = await self._keys.find_one_and_update(
                {"_id": key_id},
                # What was revoked before keeps the earlier time.
                {"$min": {"revoked_at": now}},
                return_document=ReturnDocument.AFTER,
            )
        return None if document is None else _key_of(document)

    async def note_use(self, key_id: str, now: datetime) -> None:
        """Remember when a key was last used. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing(CALLER_LIMIT):
            await self._keys.update_one({"_id": key_id}, {"$max": {"last_used_at": now}})


def _document_of(key: ApiKey) -> Document:
    document: Document = {
        "_id": key.id,
        "schema": SCHEMA,
        "organization_id": key.organization_id,
        "name": key.name,
        "digest": key.digest,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }
    # `$min` and `$max` take an absent field for none, but sort null before all dates.
    return document | ({} if key.revoked_at is None else {"revoked_at": key.revoked_at})


def _key_of(document: Document) -> ApiKey:
    """Raises `StoreError` for what somebody has spoilt: it opens nothing."""
    try:
        return ApiKey(
            id=_text(document["_id"]),
            digest=_text(document["digest"]),
            organization_id=_text(document["organization_id"]),
            scopes=frozenset(Scope(scope) for scope in document["scopes"]),
            created_at=_moment(document["created_at"]),
            name=_text(document.get("name", "")),
            expires_at=_optional_moment(document.get("expires_at")),
            revoked_at=_optional_moment(document.get("revoked_at")),
            last_used_at=_optional_moment(document.get("last_used_at")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the API key {document.get('_id')!r} cannot be read from MongoDB") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError("not a time")
    return value


def _optional_moment(value: Any) -> datetime | None:
    return None if value is None else _moment(value)
