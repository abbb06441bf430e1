"""
Shapes: of which types the stored fields are that loops read, and what stands in for a field of another type.

A document may have been written by hand or by another version. Whoever decodes one checks its shape first, so
that what is wrong is found there, by name, and not in the middle of a loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any, TypeAlias

from bson.dbref import DBRef
from bson.int64 import Int64

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.request import RequestStatus
from agent_service.store.driver import Document

#: A stored count above this, or below zero, was not counted: one more would not fit.
_LARGEST_COUNT = 2**53

_INTEGER = frozenset({int, Int64})
#: What a JSON value is made of, besides texts, objects and arrays.
PLAIN = _INTEGER | {float, bool, NoneType}
_OBJECT = frozenset({dict, DBRef})
#: BSON types that Python knows by other names, for messages.
_NAMES = {"str": "string", "datetime": "date", "dict": "object", "list": "array", "NoneType": "nothing"}


@dataclass(frozen=True, slots=True)
class Field:
    """A stored field: of which exact Python types it may be, and what a document gets instead of others."""

    kinds: frozenset[type]
    #: From the document's id and the present time; it need not be true, only decodable.
    instead: Callable[[str, datetime], Any] = lambda _id, _at: None


_TEXT = frozenset({str})
_DATE = frozenset({datetime})
_COUNT = Field(_INTEGER, lambda _id, _at: 0)
_FLAG = Field(frozenset({bool, NoneType}), lambda _id, _at: False)
_WHEN = Field(_DATE, lambda _id, at: at)
_LIST = Field(frozenset({list}), lambda _id, _at: [])
_WORD = Field(_TEXT, lambda _id, _at: "unknown")
_CALLER: Mapping[str, Field] = {
    "organization_id": _WORD,
    "user_id": Field(_TEXT | {NoneType}),
    "correlation_id": Field(_TEXT | {NoneType}),
    "trace": Field(_OBJECT | {NoneType}),
}

#: The fields of a context; what is left out of what is read of one is optional.
CONTEXT: Mapping[str, Field] = {
    "_id": Field(_TEXT, lambda document_id, _at: document_id),
    "request_id": Field(_TEXT, lambda document_id, _at: request_id_in(document_id)),
    "step": Field(_TEXT, lambda document_id, _at: document_id[len(request_id_in(document_id)) + 1 :]),
    "service": _WORD,
    "queue": _WORD,
    **_CALLER,
    "status": _WORD,
    "priority": Field(_INTEGER | {float}, lambda _id, _at: 0),
    "rank": _COUNT,
    "run_at": _WHEN,
    "waiting_on": _LIST,
    "metadata": Field(_OBJECT | {NoneType}),
    "idempotency_key": Field(_TEXT, lambda document_id, _at: document_id),
    "attempt": _COUNT,
    "tries": _COUNT,
    "max_attempts": Field(_INTEGER, lambda _id, _at: 1),
    "sole": _FLAG,
    "leases_lost": Field(_INTEGER | {NoneType}, lambda _id, _at: 0),
    "lease": Field(_OBJECT | {NoneType}),
    "cancel_requested": _FLAG,
    "deadline_passed": _FLAG,
    "usage": Field(_OBJECT | {NoneType}),
    "error": Field(_OBJECT | {NoneType}),
    "history": Field(frozenset({list, NoneType}), lambda _id, _at: []),
    "settled": Field(frozenset({bool, NoneType}), lambda _id, _at: False),
    "created_at": _WHEN,
    "deadline_at": _WHEN,
    "released_at": Field(_DATE | {NoneType}),
    "started_at": Field(_DATE | {NoneType}),
    "finished_at": Field(_DATE | {NoneType}),
    "expires_at": Field(_DATE | {NoneType}),
}
#: The fields of a request.
REQUEST: Mapping[str, Field] = {
    "_id": Field(_TEXT),
    **_CALLER,
    "fingerprint": _WORD,
    "status": _WORD,
    "planned": Field(frozenset({bool})),
    "steps": _LIST,
    "variables": Field(_OBJECT | {NoneType}),
    "metadata": Field(_OBJECT | {NoneType}),
    "priority": Field(_INTEGER | {float}),
    "retry_of": Field(_TEXT | {NoneType}),
    "reused": Field(frozenset({list, NoneType})),
    "cancel_requested": Field(frozenset({bool})),
    "created_at": _WHEN,
    "deadline_at": _WHEN,
    "finished_at": Field(_DATE | {NoneType}),
    "expires_at": Field(_DATE | {NoneType}),
    "idempotency_key": Field(_TEXT | {NoneType}),
    "callback": Field(_OBJECT | {NoneType}),
}
#: The fields of the sign of life of a worker.
WORKER: Mapping[str, Field] = {
    "_id": Field(_TEXT),
    "service": _WORD,
    "queues": _LIST,
    "host": _WORD,
    "pid": _COUNT,
    "concurrency": _COUNT,
    "running": _COUNT,
    "loop_lag": Field(_INTEGER | {float, NoneType}),
    "trouble": Field(_TEXT | {NoneType}),
    "version": Field(_TEXT | {NoneType}),
    "started_at": _WHEN,
    "seen_at": _WHEN,
}
#: The fields of a chunk.
CHUNK: Mapping[str, Field] = {
    "_id": Field(_TEXT),
    "context_id": _WORD,
    "attempt": _COUNT,
    "seq": _COUNT,
    "delta": _WORD,
    "at": _WHEN,
}

_LEASE: Mapping[str, Field] = {"token": _WORD, "worker": _WORD, "expires_at": _WHEN}
_ERROR: Mapping[str, Field] = {"code": _WORD, "message": _WORD, "retryable": _FLAG}
_RECORD: Mapping[str, Field] = {
    "attempt": _COUNT,
    "token": _WORD,
    "worker": _WORD,
    "started_at": _WHEN,
    "ended_at": _WHEN,
    "outcome": _WORD,
    "chunks": _COUNT,
    "error": Field(_OBJECT | {NoneType}),
    "run_at": Field(_DATE | {NoneType}),
}
_STEP: Mapping[str, Field] = {
    "name": _WORD,
    "service": _WORD,
    "queue": _WORD,
    "after": _LIST,
    "max_attempts": _COUNT,
}
_COUNTS = ("attempt", "tries", "max_attempts")


_Kinds: TypeAlias = tuple[tuple[str, frozenset[type]], ...]


def _kinds(fields: Mapping[str, Field]) -> _Kinds:
    return tuple((name, field.kinds) for name, field in fields.items())


# Made once: a claimed context is checked in a few microseconds.
_CONTEXT_KINDS, _REQUEST_KINDS = _kinds(CONTEXT), _kinds(REQUEST)
_WORKER_KINDS, _CHUNK_KINDS = _kinds(WORKER), _kinds(CHUNK)
_LEASE_KINDS, _ERROR_KINDS, _RECORD_KINDS, _STEP_KINDS = map(_kinds, (_LEASE, _ERROR, _RECORD, _STEP))
_CALLBACK_KINDS = _kinds({"url": _WORD})
_STATUSES = frozenset(status.value for status in ContextStatus)
_REQUEST_STATUSES = frozenset(status.value for status in RequestStatus)
_OUTCOMES = frozenset(outcome.value for outcome in AttemptOutcome)


def check_context(document: Document) -> None:
    """Raise `UndecodableDocument` if it is no context; what was not read of it is not missed."""
    _check(document, _CONTEXT_KINDS)
    for name in _COUNTS:
        if not 0 <= document[name] <= _LARGEST_COUNT:
            raise UndecodableDocument(name, "a number that cannot be counted", "a count")
    if document["status"] not in _STATUSES:
        raise UndecodableDocument("status", "another text", "a status")
    if document["waiting_on"]:
        _check_texts(document, "waiting_on")
    if (lease := document.get("lease")) is not None:
        _check_object(lease, _LEASE_KINDS, "lease")
    if (error := document.get("error")) is not None:
        _check_object(error, _ERROR_KINDS, "error")
    for record in document.get("history") or ():
        _check_record(record)


def check_request(document: Document) -> None:
    """Raise `UndecodableDocument` if it is no request."""
    _check(document, _REQUEST_KINDS)
    if document["status"] not in _REQUEST_STATUSES:
        raise UndecodableDocument("status", "another text", "a status")
    for step in document["steps"]:
        _check_object(step, _STEP_KINDS, "steps")
        _check_texts(step, "after")
    if document.get("reused"):
        _check_texts(document, "reused")
    if (callback := document.get("callback")) is not None:
        _check_object(callback, _CALLBACK_KINDS, "callback")


def check_worker(document: Document) -> None:
    """Raise `UndecodableDocument` if it is no sign of life of a worker."""
    _check(document, _WORKER_KINDS)
    _check_texts(document, "queues")


def check_chunk(document: Document) -> None:
    """Raise `UndecodableDocument` if it is no chunk."""
    _check(document, _CHUNK_KINDS)


def _check_object(document: Any, kinds: _Kinds, within: str) -> None:
    if type(document) is not dict:
        # What BSON takes for a reference is none of ours either.
        raise UndecodableDocument(within, name_of(document), "an object")
    _check(document, kinds, within)


def mended(document: Document, at: datetime) -> Document:
    """
    What has to be set in a context so that it can be decoded, by field: a stand-in for each odd one.

    Its error and its end are up to the caller. An odd id cannot be mended.
    """
    document_id = document["_id"]
    if not isinstance(document_id, str):
        return {}
    changes = {
        name: field.instead(document_id, at)
        for name, field in CONTEXT.items()
        if name != "_id" and type(document.get(name)) not in field.kinds
    }
    changes |= {
        name: None for name in ("input", "output", "metadata", "usage") if not _is_json(document.get(name))
    }
    candidate = {**document, **changes, "lease": None, "error": None}
    for name in ("attempt", "tries", "max_attempts", "waiting_on", "history"):
        try:
            check_context(candidate)
        except UndecodableDocument as odd:
            if odd.field.partition(".")[0] == name:
                changes[name] = candidate[name] = CONTEXT[name].instead(document_id, at)
    return changes


def _is_json(value: object) -> bool:
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isinstance(value, str) or type(value) in PLAIN


def request_id_in(context_id: str) -> str:
    """The id of the request in that of a context or of a callback."""
    return context_id.partition(":" if "." not in context_id else ".")[0]


def name_of(value: object) -> str:
    """What type a value is of, in the words of BSON; never the value, which may be a secret."""
    name = type(value).__name__
    return _NAMES.get(name, name.lower())


def _check(document: Document, kinds: _Kinds, within: str = "") -> None:
    get = document.get
    for name, allowed in kinds:
        if type(get(name)) not in allowed:
            field = f"{within}.{name}" if within else name
            wanted = " or ".join(
                sorted({_NAMES.get(kind.__name__, kind.__name__.lower()) for kind in allowed})
            )
            raise UndecodableDocument(field, name_of(get(name)), wanted)


def _check_texts(document: Document, name: str) -> None:
    for item in document[name]:
        if type(item) is not str:
            raise UndecodableDocument(name, f"an array with {name_of(item)}", "an array of strings")


def _check_record(record: Any) -> None:
    _check_object(record, _RECORD_KINDS, "history")
    if record["outcome"] not in _OUTCOMES:
        raise UndecodableDocument("history.outcome", "another text", "an outcome")
    if (error := record.get("error")) is not None:
        _check_object(error, _ERROR_KINDS, "history.error")
