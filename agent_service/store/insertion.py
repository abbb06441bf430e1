"""Insertion: documents that have ids of ours, so that inserting them can be repeated."""

from collections.abc import Sequence
from typing import TypeAlias

from bson.raw_bson import RawBSONDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from agent_service.store.driver import Collection, Database, Document, write_once

#: A document as it is sent.
Encoded: TypeAlias = RawBSONDocument

#: Server codes of what passes, after which a driver sends a write again (its "retryable errors").
_PASSING = frozenset({6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})


async def insert_all(
    database: Database, collection: Collection, documents: Sequence[Document | Encoded], *, ordered: bool
) -> None:
    """
    Insert documents by a plain command, at half the cost of the driver's `insert_many`.

    The server keeps no record of it by which it would know it again. Where it has to be repeated, it is as
    `insert_many` is; what was applied is told then as a duplicate of its own `_id`. Raises `BulkWriteError`,
    and whatever else `insert_many` raises.
    """
    try:
        command = {"insert": collection.name, "documents": documents, "ordered": ordered}
        await write_once(database, command)
    except DocumentTooLarge:
        # Together they are more than one command holds, and nothing was sent.
        await collection.insert_many(documents, ordered=ordered)
    except (AutoReconnect, OperationFailure) as error:
        if not _passes(error):
            raise
        try:
            await collection.insert_many(documents, ordered=ordered)
        except ServerSelectionTimeoutError:
            # This was not sent, and what was sent before it may have been applied.
            raise error from None


def _passes(error: AutoReconnect | OperationFailure) -> bool:
    """Whether what was sent, or perhaps was, is to be sent again."""
    if isinstance(error, ServerSelectionTimeoutError):
        return False
    if isinstance(error, BulkWriteError):
        concerns = (error.details or {}).get("writeConcernErrors", [])
        return any(each.get("code") in _PASSING for each in concerns)
    return isinstance(error, AutoReconnect) or error.code in _PASSING
