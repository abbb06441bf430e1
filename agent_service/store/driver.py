"""
The bridge between the drivers: PyMongo Async (the default) and Motor.

Everything above speaks to PyMongo Async's types; what Motor does differently is bridged here and nowhere
else: it starts sessions with `await`, returns cursors from `aggregate` without it, and closes without it.
"""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Collection as AnyCollection
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, TypeAlias, cast

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient, ReadPreference, UpdateMany, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from agent_service.domain.errors import ConfigurationError
from agent_service.store.operations import paced
from agent_service.store.primary import PrimaryListener

#: A document as BSON decodes it; documents stay inside this package.
Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncCollection[Document]
Database: TypeAlias = AsyncDatabase[Document]
Session: TypeAlias = AsyncClientSession
Update: TypeAlias = UpdateOne | UpdateMany

#: How often the driver looks at each server on two connections; a new primary is told at once all the same.
_HEARTBEAT_MS = 30_000

_CODEC: CodecOptions[Document] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=bson.binary.UuidRepresentation.STANDARD,
    # A date that Python has no datetime for, or bytes that are no text, must not spoil a whole batch.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)
#: An aware datetime takes several times as long to decode as a naive one.
_NAIVE_CODEC: CodecOptions[Document] = _CODEC.with_options(tz_aware=False, tzinfo=None)


def open_client(
    uri: str, driver: str, *, on_new_primary: Callable[[], None] | None = None
) -> AsyncMongoClient[Document]:
    """
    A client of the wanted driver; connects on first use. Raises `ConfigurationError`.

    `on_new_primary` is called within about a second of the client finding another primary than before, from
    any thread; never where the client is made outside of an event loop.
    """
    options: dict[str, Any] = {
        "appname": "agent_service",
        "retryWrites": True,
        "serverSelectionTimeoutMS": 3_000,
        "connectTimeoutMS": 3_000,
        "server_selector": paced,
    }
    if "heartbeatfrequencyms" not in uri.lower():
        options["heartbeatFrequencyMS"] = _HEARTBEAT_MS
    # PyMongo starts a task for its listeners at once, and that needs a loop.
    if on_new_primary is not None and _in_event_loop():
        options["event_listeners"] = [PrimaryListener(on_new_primary)]
    if driver not in ("pymongo", "motor"):
        raise ConfigurationError(f"MONGODB_DRIVER is {driver!r}, and should be pymongo or motor")
    try:
        if driver == "motor":
            return cast("AsyncMongoClient[Document]", _motor_client_class()(uri, **options))
        return AsyncMongoClient[Document](uri, **options)
    except (ValueError, TypeError, bson.errors.BSONError, PyMongoError) as error:
        # What the driver quotes of an address may be the end of a password with a `/` in it.
        reason = re.sub(r'"[^"]*"', '"…"', str(error)) if "@" in uri else str(error)
        raise ConfigurationError(f"MONGODB_URI cannot be used: {reason}") from None


def _motor_client_class() -> Any:
    """Motor is an extra, so it is imported only where somebody asked for it."""
    try:
        from motor.motor_asyncio import AsyncIOMotorClient
    except ImportError as error:
        raise ConfigurationError(
            "MONGODB_DRIVER=motor needs Motor; install agent-service[motor], or leave the variable out"
        ) from error
    return AsyncIOMotorClient


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_database(candidate: object) -> bool:
    """Whether it is a database of one of the drivers, not a client, a collection or a blocking database."""
    classes = {kind.__name__ for kind in type(candidate).__mro__}
    return isinstance(candidate, AsyncDatabase) or "AsyncIOMotorDatabase" in classes


def checked_database(database: object) -> Database:
    """The database under PyMongo Async's type, whichever driver it came from. Raises `ConfigurationError`."""
    if not is_database(database):
        kind = type(database)
        raise ConfigurationError(
            "Store takes a database of pymongo.AsyncMongoClient or of Motor, such as"
            f" client['agent_service'], not {kind.__module__}.{kind.__qualname__}"
        )
    return cast("Database", database)


def durable(database: Database, name: str, *, read: str = "local", aware: bool = True) -> Collection:
    """
    The collection with everything explicit: primary reads, `w: majority`, aware datetimes.

    `read` is the read concern: `majority` for whatever a client is shown, `local` otherwise. Time limits
    come from `pymongo.timeout` around each operation, which also bounds the wait for the majority. Where
    datetimes are not `aware` they are in UTC all the same, and whoever decodes a document has to say so.
    """
    return database.get_collection(
        name,
        codec_options=_CODEC if aware else _NAIVE_CODEC,
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern("majority"),
        read_concern=ReadConcern(read),
    )


async def bulk_write(
    collection: Collection,
    updates: Sequence[Update],
    *,
    session: Session | None = None,
    ordered: bool = True,
) -> int:
    """Apply all updates in one round trip; returns how many documents they matched."""
    if not updates:
        return 0
    result = await collection.bulk_write(updates, ordered=ordered, session=session)
    return result.matched_count


async def update_once(
    database: Database, name: str, updates: Sequence[Mapping[str, Any]], *, session: Session | None = None
) -> int:
    """
    Apply the updates of an `update` command in any order, at half the cost of `bulk_write`.

    The driver never repeats it, and the server keeps no record of it for that: each update must be one that
    changes nothing when it comes again. Together they are one document, so they have at most 16 MiB. Returns
    how many documents they matched. Raises `BulkWriteError`, as `bulk_write` does.
    """
    if not updates:
        return 0
    command = {"update": name, "updates": updates, "ordered": False}
    return await write_once(database, command, session=session)


async def write_once(
    database: Database, command: Document, *, session: Session | None = None, w: int | str = "majority"
) -> int:
    """
    Send a write command that the driver never repeats; returns its `n` once `w` members have it.

    Raises `BulkWriteError`, as `bulk_write` does.
    """
    answer = await run_command(database, {**command, "writeConcern": {"w": w}}, session=session)
    refused, unconfirmed = answer.get("writeErrors"), answer.get("writeConcernError")
    if refused or unconfirmed:
        concerns = [unconfirmed] if unconfirmed else []
        raise BulkWriteError({**answer, "writeErrors": refused or [], "writeConcernErrors": concerns})
    number: int = answer["n"]
    return number


async def run_command(database: Database, command: Document, *, session: Session | None = None) -> Document:
    """
    The primary's answer to a command, with aware datetimes; the driver never repeats it.

    A command knows nothing of the settings of a collection: its concerns stand in it.
    """
    answer: Document = await database.command(
        command, codec_options=_CODEC, read_preference=ReadPreference.PRIMARY, session=session
    )
    return answer


async def aggregate(database: Database, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Everything that a pipeline over the whole database finds in the primary, with aware datetimes."""
    whole: Any = database.with_options(
        codec_options=_CODEC, read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("local")
    )
    return await aggregate_in(whole, pipeline)


async def aggregate_in(of: Any, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Everything that a pipeline finds in a collection, or in a database as a whole, as that is set up."""
    # Motor gives a cursor at once, and PyMongo something to wait for.
    opened: Any = of.aggregate(pipeline)
    cursor = await opened if inspect.isawaitable(opened) else opened
    found: list[Document] = await cursor.to_list(None)
    return found


@asynccontextmanager
async def causal_session(database: Database) -> AsyncIterator[Session]:
    """A session in which no read goes back behind an earlier one."""
    async with _session(database, causal=True) as session:
        yield session


@asynccontextmanager
async def plain_session(database: Database) -> AsyncIterator[Session]:
    """A session for a cursor that is read with commands: only the one that opened it may."""
    async with _session(database, causal=False) as session:
        yield session


@asynccontextmanager
async def _session(database: Database, *, causal: bool) -> AsyncIterator[Session]:
    started: Any = database.client.start_session(causal_consistency=causal)
    session: Session = await started if inspect.isawaitable(started) else started
    try:
        yield session
    finally:
        await session.end_session()


def seeds_of(database: Database) -> AnyCollection[tuple[str, int]]:
    """The hosts and ports that the database's client was given; empty where it has none."""
    client: Any = database.client
    # Motor's client wraps PyMongo's.
    inner = client if isinstance(client, AsyncMongoClient) else client.delegate
    settings = getattr(inner, "_topology_settings", None)
    return getattr(settings, "seeds", None) or ()


async def close_client(client: AsyncMongoClient[Document]) -> None:
    """Close the connections."""
    closed: Any = client.close()
    if inspect.isawaitable(closed):
        await closed
