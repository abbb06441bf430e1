"""Stored shapes: the fields of every kind of document that somebody may spoil, and that a loop reads."""

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.request import RequestStatus
from agent_service.domain.service_state import BreakerState
from agent_service.store.shapes import (
    ARRAY,
    COUNT,
    DATE,
    FLAG,
    JSON,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Field,
    Shape,
)

_TEXT, _MAYBE_TEXT = Field(kind=TEXT), Field(kind=TEXT, optional=True)
_DATE, _MAYBE_DATE = Field(kind=DATE), Field(kind=DATE, optional=True)
_FLAG, _MAYBE_FLAG = Field(kind=FLAG), Field(kind=FLAG, optional=True)
_COUNT, _MAYBE_COUNT = Field(kind=COUNT), Field(kind=COUNT, optional=True)
#: It is added to, which null cannot be.
_MISSING_COUNT = Field(kind=COUNT, optional=True, nullable=False)
_WHOLE = Field(kind=WHOLE)
_JSON = Field(kind=JSON, optional=True, deep=True)
_JSON_OBJECT = Field(kind=OBJECT, optional=True, deep=True)
#: For queries only: nobody reads it.
_SCHEMA = Field(kind=WHOLE, read=False)
_EXPIRY = _MAYBE_DATE

ERROR = Shape("error", {"code": _TEXT, "message": _TEXT, "retryable": _FLAG})
LEASE = Shape("lease", {"token": _TEXT, "worker": _TEXT, "expires_at": _DATE, "lone": _MAYBE_FLAG})
TRACE = Shape("trace", {"traceparent": _MAYBE_TEXT})
CALLBACK = Shape("callback", {"url": _TEXT})
RECORD = Shape(
    "record",
    {
        "attempt": _COUNT,
        "token": _TEXT,
        "worker": _TEXT,
        "started_at": _DATE,
        "ended_at": _DATE,
        "outcome": Field(kind=TEXT, values=frozenset(outcome.value for outcome in AttemptOutcome)),
        "chunks": _COUNT,
        "error": Field(kind=OBJECT, optional=True, shape=ERROR),
        "run_at": _MAYBE_DATE,
    },
)
STEP = Shape(
    "step",
    {
        "name": _TEXT,
        "service": _TEXT,
        "queue": _TEXT,
        "input": _JSON,
        "after": Field(kind=ARRAY, items=TEXT),
        "max_attempts": _COUNT,
    },
)
_CALLER = {
    "organization_id": _TEXT,
    "user_id": _MAYBE_TEXT,
    "correlation_id": _MAYBE_TEXT,
    "trace": Field(kind=OBJECT, optional=True, shape=TRACE),
}

CONTEXT = Shape(
    "contexts",
    {
        "_id": _TEXT,
        "schema": _SCHEMA,
        "request_id": _TEXT,
        "step": _TEXT,
        "service": _TEXT,
        "queue": _TEXT,
        **_CALLER,
        "status": Field(kind=TEXT, values=frozenset(status.value for status in ContextStatus)),
        "priority": _WHOLE,
        "rank": _WHOLE,
        "run_at": _DATE,
        "waiting_on": Field(kind=ARRAY, items=TEXT),
        "input": _JSON,
        "metadata": _JSON_OBJECT,
        "idempotency_key": _TEXT,
        "attempt": _COUNT,
        "tries": _COUNT,
        "max_attempts": _COUNT,
        "sole": _MAYBE_FLAG,
        "leases_lost": _MISSING_COUNT,
        "lease": Field(kind=OBJECT, optional=True, shape=LEASE),
        "cancel_requested": _MAYBE_FLAG,
        "deadline_passed": _MAYBE_FLAG,
        "output": _JSON,
        "usage": _JSON_OBJECT,
        "error": Field(kind=OBJECT, optional=True, shape=ERROR),
        "history": Field(kind=ARRAY, optional=True, nullable=False, shape=RECORD),
        "settled": _MAYBE_FLAG,
        "created_at": _DATE,
        "deadline_at": _DATE,
        "released_at": _MAYBE_DATE,
        "started_at": _MAYBE_DATE,
        "finished_at": _MAYBE_DATE,
        "expires_at": _EXPIRY,
    },
)

REQUEST = Shape(
    "requests",
    {
        "_id": _TEXT,
        "schema": _SCHEMA,
        **_CALLER,
        "fingerprint": _TEXT,
        "status": Field(kind=TEXT, values=frozenset(status.value for status in RequestStatus)),
        "planned": _FLAG,
        "steps": Field(kind=ARRAY, shape=STEP),
        "variables": _JSON_OBJECT,
        "metadata": _JSON_OBJECT,
        "priority": _WHOLE,
        "retry_of": _MAYBE_TEXT,
        "reused": Field(kind=ARRAY, optional=True, items=TEXT),
        "cancel_requested": _FLAG,
        "created_at": _DATE,
        "deadline_at": _DATE,
        "finished_at": _MAYBE_DATE,
        "expires_at": _EXPIRY,
        "idempotency_key": _MAYBE_TEXT,
        "callback": Field(kind=OBJECT, optional=True, shape=CALLBACK),
    },
)

EVENT = Shape(
    "events",
    {
        "_id": _TEXT,
        "schema": _SCHEMA,
        "context_id": _TEXT,
        "attempt": _COUNT,
        "seq": _COUNT,
        "delta": _TEXT,
        "at": _DATE,
        "expires_at": Field(kind=DATE, optional=True, read=False),
    },
)

HOLD = Shape("hold", {"reason": _MAYBE_TEXT, "since": _DATE, "until": _MAYBE_DATE})
PROBE = Shape("probe", {"token": _TEXT, "worker": _TEXT, "expires_at": _DATE})
BREAKER = Shape(
    "breaker",
    {
        "state": Field(kind=TEXT, values=frozenset(state.value for state in BreakerState)),
        "since": _MAYBE_DATE,
        "until": _MAYBE_DATE,
        "opened": _MAYBE_COUNT,
        "reason": _MAYBE_TEXT,
        "probe": Field(kind=OBJECT, optional=True, shape=PROBE),
    },
)
WINDOW = Shape(
    "window",
    {
        "started_at": _DATE,
        "calls": _MISSING_COUNT,
        "failures": _MISSING_COUNT,
        "unreachable": _MISSING_COUNT,
        "answered": _MISSING_COUNT,
        "last_error": _MAYBE_TEXT,
    },
)
SERVICE = Shape(
    "services",
    {
        "_id": _TEXT,
        "schema": _SCHEMA,
        "epoch": _COUNT,
        "revision": _MISSING_COUNT,
        "breaker": Field(kind=OBJECT, optional=True, shape=BREAKER),
        "window": Field(kind=OBJECT, optional=True, shape=WINDOW),
        "holds": Field(kind=OBJECT, optional=True, nullable=False, entries=HOLD),
    },
)

WORKER = Shape(
    "workers",
    {
        "_id": _TEXT,
        "schema": _SCHEMA,
        "service": _TEXT,
        "queues": Field(kind=ARRAY, items=TEXT),
        "host": _TEXT,
        "pid": _COUNT,
        "concurrency": _COUNT,
        "running": _COUNT,
        "loop_lag": Field(kind=NUMBER, optional=True),
        "version": _MAYBE_TEXT,
        "started_at": _DATE,
        "seen_at": _DATE,
        "expires_at": Field(kind=DATE, read=False),
    },
)

#: Every kind of document whose fields are checked, by its collection.
SHAPES = {shape.name: shape for shape in (CONTEXT, REQUEST, EVENT, SERVICE, WORKER)}
