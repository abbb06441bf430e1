"""Insertion: documents that have ids of ours, so that inserting them can be repeated."""

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import bson
from bson.raw_bson import RawBSONDocument
from loguru import logger
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from agent_service.store.driver import Collection, Database, Document, write_once
from agent_service.store.operations import repeats_nothing

#: A document as it is sent.
Encoded: TypeAlias = RawBSONDocument

#: Bytes, and documents, of one command at most, where one document is not larger.
_MOST_BYTES, _MOST_DOCUMENTS = 8 * 1024 * 1024, 1_000

#: Server codes of what passes, after which a driver sends a write again (its "retryable errors").
_PASSING = frozenset({6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})


async def insert_all(
    database: Database,
    collection: Collection,
    documents: Sequence[Document | Encoded],
    *,
    ordered: bool,
    size: float = math.inf,
) -> None:
    """
    Insert documents by plain commands, at half the cost of the driver's `insert_many`.

    The server keeps no record of them by which it would know them again. What has to be repeated, is as
    `insert_many` does it; what was applied is told then as a duplicate of its own `_id`. `size` is what they
    have together, in bytes, at most; where nobody knows, they are measured if there are several. Raises
    `BulkWriteError`, and whatever else `insert_many` raises.
    """
    start, refused = 0, list[BulkWriteError]()
    for piece in _pieces(documents, size):
        try:
            await _insert(database, collection, piece, ordered=ordered)
        except BulkWriteError as error:
            for each in error.details["writeErrors"]:
                each["index"] += start
            refused.append(error)
            if ordered:
                break
        except ServerSelectionTimeoutError as error:
            if start == 0:
                raise
            # This was not sent, and what was sent before it was applied.
            raise AutoReconnect(str(error)) from error
        start += len(piece)
        repeats_nothing()
    if len(refused) == 1:
        raise refused[0]
    if refused:
        errors = [each for error in refused for each in error.details["writeErrors"]]
        concerns = [each for error in refused for each in error.details["writeConcernErrors"]]
        raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": concerns})


async def insert_ahead(
    database: Database, collection: Collection, documents: Sequence[Document | Encoded]
) -> bool:
    """
    Insert documents, in their order, by one command that the primary alone acknowledges.

    The next primary may have none of them, or the first of them: that has to be looked at. They have to fit
    in one command (`fit_together`), because between two there may be an election. False: `insert_all` is to
    do it, and to tell why it cannot be done; they may have been sent. Raises `ServerSelectionTimeoutError`.
    """
    try:
        command = {"insert": collection.name, "documents": documents, "ordered": True}
        await write_once(database, command, w=1)
    except ServerSelectionTimeoutError:
        raise
    except (AutoReconnect, OperationFailure) as error:
        logger.debug("documents of {} are inserted again: {}", collection.name, error)
        return False
    return True


def fit_together(documents: Sequence[Document | Encoded], *, size: float) -> bool:
    """Whether one command is enough for these, which have so many bytes together at most."""
    return len(documents) == 1 or (size <= _MOST_BYTES and len(documents) <= _MOST_DOCUMENTS)


def _pieces(documents: Sequence[Document | Encoded], size: float) -> Iterator[Sequence[Document | Encoded]]:
    """The documents in the same order, as many as go together; what one piece is sent as is not kept."""
    if fit_together(documents, size=size):
        yield documents
        return
    piece, together = list[Document | Encoded](), 0
    for document in documents:
        # The driver encodes a command as a whole, however large it is, before it looks at its size.
        each = document if isinstance(document, RawBSONDocument) else Encoded(bson.encode(document))
        if piece and (together + len(each.raw) > _MOST_BYTES or len(piece) == _MOST_DOCUMENTS):
            yield piece
            piece, together = [], 0
        piece.append(each)
        together += len(each.raw)
    if piece:
        yield piece


async def _insert(
    database: Database, collection: Collection, documents: Sequence[Document | Encoded], *, ordered: bool
) -> None:
    try:
        command = {"insert": collection.name, "documents": documents, "ordered": ordered}
        await write_once(database, command)
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
