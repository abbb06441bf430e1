"""Operations: the time limit of every call to MongoDB, and the border where its errors become ours."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import pymongo
from bson.errors import BSONError
from loguru import logger
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from agent_service.domain.errors import ConfigurationError as SettingError
from agent_service.domain.errors import (
    StoreError,
    StoreUnavailable,
    UnstorableValue,
    WriteOutcomeUnknown,
)
from agent_service.telemetry.spaced import Spaced

#: Longer than an election, so that one failover is ridden out inside the call.
READ_LIMIT = timedelta(seconds=10)
WRITE_LIMIT = timedelta(seconds=15)
#: Where a caller waits for the answer: an API client gets a 503 instead of silence.
CALLER_LIMIT = timedelta(seconds=4)

#: Commands that a call may send before they are paced, and seconds between those that follow.
_AT_ONCE = 8
_PACE = 0.5

#: Server codes of refusals that no retry mends: unauthorized, authentication failed, and the like; an index
#: of the same name with other options or keys.
_REFUSED = frozenset({13, 18, 8000, 85, 86})
#: Those of them that say that our user may not do this, or is none; the driver's text of an error that it met
#: at a server while it looked for one has the code in it.
_NOT_OURS = frozenset({13, 18, 8000})
_CODE_IN_TEXT = re.compile(r"'code': (\d+)")
_refusals = Spaced(timedelta(minutes=1))
#: The document is over 16 MB, or nested too deeply.
_UNSTORABLE = frozenset({15, 10334, 17280, 17419, 17420})

Server = TypeVar("Server")


@dataclass(slots=True)
class _Sent:
    """What one call has sent: how much may still follow at once, and when (monotonic) the next one may."""

    at_once: int = _AT_ONCE
    next_at: float = 0.0

    def may_go_on(self) -> bool:
        now = time.monotonic()
        if self.at_once <= 0 and now < self.next_at:
            return False
        self.at_once -= 1
        self.next_at = now + _PACE
        return True


_sent: ContextVar[_Sent | None] = ContextVar("sent", default=None)


def paced(servers: list[Server]) -> list[Server]:
    """
    The `server_selector` of a client, called by the driver before each command.

    Within a time limit the driver repeats without any pause what a server refuses for now: 3,500 times in a
    second, for as long as the limit goes on. Where it finds no server it waits for half a second.
    """
    sent = _sent.get()
    return servers if sent is None or sent.may_go_on() else []


def repeats_nothing() -> None:
    """What the call sends next is no repetition of what it has sent: it is paced anew."""
    sent = _sent.get()
    if sent is not None:
        sent.at_once = _AT_ONCE


@contextmanager
def at_most(limit: timedelta) -> Iterator[None]:
    """Bound everything inside, however many operations, by one limit; their own limits only shorten it."""
    with pymongo.timeout(limit.total_seconds()):
        yield


@contextmanager
def _bounded(limit: timedelta) -> Iterator[None]:
    token = _sent.set(_Sent())
    try:
        with pymongo.timeout(limit.total_seconds()):
            yield
    finally:
        _sent.reset(token)


@contextmanager
def reading(limit: timedelta = READ_LIMIT) -> Iterator[None]:
    """
    Bound a read and translate its errors.

    Raises `StoreUnavailable` for everything that may pass.
    """
    try:
        with _bounded(limit):
            yield
    except PyMongoError as error:
        if _is_of_transaction(error):
            raise
        _tell_refused_login(error)
        raise _refusal(error) or StoreUnavailable(_describe(error)) from error


@contextmanager
def writing(limit: timedelta = WRITE_LIMIT) -> Iterator[None]:
    """
    Bound a write and translate its errors; `DuplicateKeyError` and `BulkWriteError` of one pass through.

    Raises `StoreUnavailable` if nothing was sent, `WriteOutcomeUnknown` if the answer was lost or the
    majority did not confirm in time, `UnstorableValue` if the document cannot be stored.
    """
    try:
        with _bounded(limit):
            yield
    except (BSONError, DocumentTooLarge, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise UnstorableValue(f"{type(error).__name__}: the value cannot be stored") from error
    except DuplicateKeyError:
        raise
    except BulkWriteError as error:
        if is_duplicate(error):
            raise
        raise _bulk_failure(error) from error
    except ServerSelectionTimeoutError as error:
        _tell_refused_login(error)
        raise StoreUnavailable(_describe(error)) from error
    except PyMongoError as error:
        if _is_of_transaction(error):
            raise
        _tell_refused_login(error)
        raise _refusal(error) or WriteOutcomeUnknown(_describe(error)) from error


def is_duplicate(error: BulkWriteError) -> bool:
    """Whether the bulk stopped at a document whose `_id` or unique key exists, and at nothing else."""
    errors = error.details.get("writeErrors", [])
    concerns = error.details.get("writeConcernErrors", [])
    return bool(errors) and not concerns and all(item.get("code") == 11000 for item in errors)


def _is_of_transaction(error: PyMongoError) -> bool:
    """
    Whether the caller's own transaction is to be run again.

    PyMongo's `with_transaction` does that, and needs the error as it is.
    """
    return error.has_error_label("TransientTransactionError")


def _bulk_failure(error: BulkWriteError) -> StoreError | UnstorableValue:
    codes = {item.get("code") for item in error.details.get("writeErrors", [])}
    if codes & _UNSTORABLE:
        return UnstorableValue("MongoDB refused the document: too large or too deeply nested")
    return WriteOutcomeUnknown(_describe(error))


def _refusal(error: PyMongoError) -> StoreError | SettingError | UnstorableValue | None:
    """What no retry mends, or None."""
    if isinstance(error, InvalidURI | ConfigurationError):
        # An address that cannot be resolved now (mongodb+srv) may be in a moment.
        if type(error.__cause__ or error.__context__).__module__.startswith("dns."):
            return StoreUnavailable(_describe(error))
        return SettingError(f"MONGODB_URI cannot be used: {error}")
    if isinstance(error, OperationFailure):
        if error.code in _REFUSED:
            return StoreError(f"MongoDB refused the operation: {_describe(error)}")
        if error.code in _UNSTORABLE:
            return UnstorableValue("MongoDB refused the document: too large or too deeply nested")
    return None


def _tell_refused_login(error: PyMongoError) -> None:
    """Say what an operator has to mend, once in a while: each call that fails says only that it did."""
    code = error.code if isinstance(error, OperationFailure) else None
    if isinstance(error, ServerSelectionTimeoutError) and (found := _CODE_IN_TEXT.search(str(error))):
        code = int(found[1])
    if code in _NOT_OURS and _refusals.is_due(code):
        logger.error(
            "MongoDB refuses this service; mend the login in MONGODB_URI, or the roles of its user: {}",
            _describe(error),
        )


def _describe(error: PyMongoError) -> str:
    """The first line of the driver's message, without the topology dump that follows it."""
    text = str(error).split(", Timeout:")[0].split(", full error:")[0].splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else 'no message'}"
