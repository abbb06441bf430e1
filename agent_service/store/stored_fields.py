"""Stored fields: the shape of every kind of document that a loop reads."""

from agent_service.domain.callback import CALLBACK_SERVICE, is_callback
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.request import RequestStatus
from agent_service.store.shapes import (
    ARRAY,
    DATE,
    FLAG,
    INTEGER,
    NOTHING,
    NUMBER,
    OBJECT,
    TEXT,
    Field,
    Shape,
)

_WORD = Field(TEXT, lambda _id, _at: "unknown")
_WORD_OR_NOTHING = Field(TEXT | NOTHING)
_COUNT = Field(INTEGER, lambda _id, _at: 0, added_to=True)
_FLAG = Field(FLAG | NOTHING, lambda _id, _at: False)
_WHEN = Field(DATE, lambda _id, at: at)
_WHEN_OR_NEVER = Field(DATE | NOTHING)
_WORDS = Field(ARRAY, lambda _id, _at: [], of_texts=True)
#: What is in it is checked where it is decoded.
_JSON_OBJECT = Field(OBJECT | NOTHING)


def request_id_in(context_id: str) -> str:
    """The id of the request in that of a context or of a callback."""
    return context_id.partition(".")[0].partition(":")[0]


def step_in(context_id: str) -> str:
    """The name of the step in the id of a context or of a callback."""
    return CALLBACK_SERVICE if is_callback(context_id) else context_id.partition(".")[2]


_ERROR = Shape({"code": _WORD, "message": _WORD, "retryable": _FLAG})
_LEASE = Shape({"token": _WORD, "worker": _WORD, "expires_at": _WHEN})
_RECORD = Shape(
    {
        "attempt": _COUNT,
        "token": _WORD,
        "worker": _WORD,
        "started_at": _WHEN,
        "ended_at": _WHEN,
        "outcome": Field(TEXT, values=frozenset(outcome.value for outcome in AttemptOutcome)),
        "chunks": _COUNT,
        "error": Field(OBJECT | NOTHING, inside=_ERROR),
        "run_at": _WHEN_OR_NEVER,
    }
)
_CALLER = {
    "organization_id": _WORD,
    "user_id": _WORD_OR_NOTHING,
    "correlation_id": _WORD_OR_NOTHING,
    "trace": Field(OBJECT | NOTHING, inside=Shape({"traceparent": _WORD_OR_NOTHING})),
}

#: A context; what is left out of what is read of one is optional.
CONTEXT = Shape(
    {
        "_id": Field(TEXT, lambda document_id, _at: document_id),
        "request_id": Field(TEXT, lambda document_id, _at: request_id_in(document_id)),
        "step": Field(TEXT, lambda document_id, _at: step_in(document_id)),
        "service": _WORD,
        "queue": _WORD,
        **_CALLER,
        "status": Field(TEXT, values=frozenset(status.value for status in ContextStatus)),
        "priority": Field(NUMBER, lambda _id, _at: 0),
        "rank": Field(INTEGER, lambda _id, _at: 0),
        "run_at": _WHEN,
        "waiting_on": _WORDS,
        "metadata": _JSON_OBJECT,
        "idempotency_key": Field(TEXT, lambda document_id, _at: document_id),
        "attempt": _COUNT,
        "tries": _COUNT,
        "max_attempts": Field(INTEGER, lambda _id, _at: 1, added_to=True),
        "sole": _FLAG,
        "leases_lost": Field(INTEGER | NOTHING, lambda _id, _at: 0, added_to=True),
        "lease": Field(OBJECT | NOTHING, inside=_LEASE),
        "cancel_requested": _FLAG,
        "deadline_passed": _FLAG,
        "usage": _JSON_OBJECT,
        "error": Field(OBJECT | NOTHING, inside=_ERROR),
        "history": Field(ARRAY | NOTHING, lambda _id, _at: [], inside=_RECORD, added_to=True),
        "settled": _FLAG,
        "created_at": _WHEN,
        "deadline_at": _WHEN,
        "released_at": _WHEN_OR_NEVER,
        "started_at": _WHEN_OR_NEVER,
        "finished_at": _WHEN_OR_NEVER,
        "expires_at": _WHEN_OR_NEVER,
    }
)
_STEP = Shape(
    {
        "name": _WORD,
        "service": _WORD,
        "queue": _WORD,
        "after": _WORDS,
        "max_attempts": _COUNT,
    }
)
_REQUEST_STATUS = Field(TEXT, values=frozenset(status.value for status in RequestStatus))
_CALLBACK = Field(OBJECT | NOTHING, inside=Shape({"url": _WORD}))
#: A request.
REQUEST = Shape(
    {
        "_id": Field(TEXT),
        **_CALLER,
        "fingerprint": _WORD,
        "status": _REQUEST_STATUS,
        "planned": Field(FLAG),
        "steps": Field(ARRAY, inside=_STEP, filled=True),
        "variables": _JSON_OBJECT,
        "metadata": _JSON_OBJECT,
        "priority": Field(NUMBER),
        "retry_of": _WORD_OR_NOTHING,
        "reused": Field(ARRAY | NOTHING, of_texts=True),
        "cancel_requested": Field(FLAG),
        "created_at": _WHEN,
        "deadline_at": _WHEN,
        "finished_at": _WHEN_OR_NEVER,
        "expires_at": _WHEN_OR_NEVER,
        "idempotency_key": _WORD_OR_NOTHING,
        "callback": _CALLBACK,
    }
)
#: What settling reads of a context.
ENDED_CONTEXT = Shape({"_id": Field(TEXT), "status": CONTEXT.fields["status"]})
#: What a waiting reader reads of a request.
STANDING = Shape({"status": _REQUEST_STATUS})
#: What a callback tells of a request.
CALLBACK_REQUEST = Shape({**_CALLER, "status": _REQUEST_STATUS, "finished_at": _WHEN, "callback": _CALLBACK})
#: What settling reads of a request.
PLAN = Shape(
    {
        "status": _REQUEST_STATUS,
        "steps": Field(ARRAY, inside=Shape({"name": _WORD, "service": _WORD, "after": _WORDS}), filled=True),
        "callback": _CALLBACK,
    }
)
#: What stopping reads of a request.
OPEN_REQUEST = Shape(
    {
        "status": _REQUEST_STATUS,
        "steps": Field(ARRAY, inside=Shape({"name": _WORD}), filled=True),
    }
)
#: The sign of life of a worker.
WORKER = Shape(
    {
        "_id": Field(TEXT),
        "service": _WORD,
        "queues": _WORDS,
        "host": _WORD,
        "pid": _COUNT,
        "process": Field(INTEGER | NOTHING),
        "processes": Field(INTEGER | NOTHING),
        "concurrency": _COUNT,
        "running": _COUNT,
        "loop_lag": Field(NUMBER | NOTHING),
        "trouble": _WORD_OR_NOTHING,
        "version": _WORD_OR_NOTHING,
        "claims_by": _WORD_OR_NOTHING,
        "started_at": _WHEN,
        "seen_at": _WHEN,
    }
)
#: A chunk of streamed output.
CHUNK = Shape(
    {
        "_id": Field(TEXT),
        "context_id": _WORD,
        "attempt": _COUNT,
        "seq": _COUNT,
        "delta": _WORD,
        "at": _WHEN,
    }
)
