"""Documents: how contexts and requests look in MongoDB, and the way there and back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from bson.dbref import DBRef

from agent_service.domain.context import (
    AttemptOutcome,
    AttemptRecord,
    Context,
    ContextError,
    ContextStatus,
    Lease,
)
from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.json_value import JsonObject, JsonValue
from agent_service.domain.request import Callback, Caller, Request, RequestStatus, Step, Submission
from agent_service.store.driver import Document
from agent_service.store.shapes import PLAIN, name_of
from agent_service.store.stored_fields import CONTEXT, REQUEST

#: The version of the documents' shape, on every document, so that a later version can migrate.
SCHEMA = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)


def context_document(context: Context) -> Document:
    """The document of a new context; it has no lease, output or history yet."""
    return {
        "_id": context.id,
        "schema": SCHEMA,
        "request_id": context.request_id,
        "step": context.step,
        "service": context.service,
        "queue": context.queue,
        **caller_fields(context.caller),
        "status": context.status.value,
        "priority": context.priority,
        "rank": context.rank,
        "run_at": context.run_at,
        "waiting_on": list(context.waiting_on),
        "input": context.input,
        "metadata": dict(context.metadata),
        "idempotency_key": context.idempotency_key,
        "attempt": context.attempt,
        "tries": context.tries,
        "max_attempts": context.max_attempts,
        "sole": context.sole,
        "leases_lost": context.leases_lost,
        "lease": None,
        "cancel_requested": context.cancel_requested,
        "deadline_passed": context.deadline_passed,
        "output": context.output,
        "usage": context.usage,
        "error": error_document(context.error),
        "history": [],
        "settled": context.settled,
        "created_at": context.created_at,
        "deadline_at": context.deadline_at,
        "released_at": context.released_at,
        "started_at": None,
        "finished_at": context.finished_at,
        "expires_at": context.expires_at,
    }


def context_of(document: Document) -> Context:
    """The context in a document; what was not read has its default. Raises `UndecodableDocument`."""
    CONTEXT.check(document)
    return Context(
        id=document["_id"],
        request_id=document["request_id"],
        step=document["step"],
        service=document["service"],
        queue=document["queue"],
        caller=caller_of(document),
        status=ContextStatus(document["status"]),
        priority=document["priority"],
        rank=document["rank"],
        run_at=_aware(document["run_at"]),
        waiting_on=tuple(document["waiting_on"]),
        input=json_of(document.get("input")),
        metadata=json_object_of(document.get("metadata")),
        idempotency_key=document["idempotency_key"],
        attempt=document["attempt"],
        tries=document["tries"],
        max_attempts=document["max_attempts"],
        sole=bool(document.get("sole")),
        leases_lost=document.get("leases_lost", 0),
        lease=_lease_of(document.get("lease")),
        cancel_requested=bool(document.get("cancel_requested")),
        deadline_passed=bool(document.get("deadline_passed")),
        output=json_of(document.get("output")),
        usage=None if document.get("usage") is None else json_object_of(document["usage"]),
        error=error_of(document.get("error")),
        history=tuple(map(record_of_document, document.get("history") or ())),
        settled=document.get("settled"),
        created_at=_aware(document["created_at"]),
        deadline_at=_aware(document["deadline_at"]),
        released_at=_aware(document.get("released_at")),
        started_at=_aware(document.get("started_at")),
        finished_at=_aware(document.get("finished_at")),
        expires_at=_aware(document.get("expires_at")),
    )


def json_of(value: Any) -> JsonValue:
    """
    A stored JSON value as it was: BSON decodes an object with `$ref` and `$id` as a reference.

    Raises `UndecodableDocument` for what is no JSON, such as a date.
    """
    # Most values are texts; an abstract class would be asked at several times the cost of a plain one.
    if isinstance(value, str):
        return value
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return {key: json_of(child) for key, child in value.items()}
    if isinstance(value, list):
        return [json_of(child) for child in value]
    if type(value) not in PLAIN:
        raise UndecodableDocument("a JSON value", name_of(value), "what JSON has")
    return cast("JsonValue", value)


def json_object_of(value: Any) -> JsonObject:
    """A stored JSON object as it was; empty if there is none."""
    found = json_of(value)
    return found if isinstance(found, Mapping) else {}


def waiting_end(status: ContextStatus, error: ContextError, at: datetime) -> Document:
    """The fields of a context that ends while no worker holds it (protocol, rule 8)."""
    return {
        "status": status.value,
        "error": error_document(error),
        "finished_at": at,
        "settled": False,
    }


def error_document(error: ContextError | None) -> Document | None:
    """The stored form of an error."""
    if error is None:
        return None
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def error_of(document: Mapping[str, Any] | None) -> ContextError | None:
    """The error in its stored form."""
    if document is None:
        return None
    return ContextError(code=document["code"], message=document["message"], retryable=document["retryable"])


def record_document(record: AttemptRecord) -> Document:
    """The stored form of one line of a context's history."""
    return {
        "attempt": record.attempt,
        "token": record.token,
        "worker": record.worker,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "outcome": record.outcome.value,
        "chunks": record.chunks,
        "error": error_document(record.error),
        "run_at": record.run_at,
    }


def record_of_document(document: Mapping[str, Any]) -> AttemptRecord:
    """One line of a context's history."""
    return AttemptRecord(
        attempt=document["attempt"],
        token=document["token"],
        worker=document["worker"],
        started_at=_aware(document["started_at"]),
        ended_at=_aware(document["ended_at"]),
        outcome=AttemptOutcome(document["outcome"]),
        chunks=document["chunks"],
        error=error_of(document.get("error")),
        run_at=_aware(document.get("run_at")),
    )


def request_document(request: Request) -> Document:
    """The document of a request."""
    submission = request.submission
    document: Document = {
        "_id": request.id,
        "schema": SCHEMA,
        **caller_fields(request.caller),
        "fingerprint": request.fingerprint,
        "status": request.status.value,
        "planned": request.planned,
        "steps": [
            {
                "name": step.name,
                "service": step.service,
                "queue": step.queue,
                "input": step.input,
                "after": list(step.after),
                "max_attempts": step.max_attempts,
            }
            for step in submission.steps
        ],
        "variables": dict(submission.variables),
        "metadata": dict(submission.metadata),
        "priority": submission.priority,
        "retry_of": request.retry_of,
        "reused": list(request.reused),
        "cancel_requested": request.cancel_requested,
        "created_at": request.created_at,
        "deadline_at": request.deadline_at,
        "finished_at": request.finished_at,
        "expires_at": request.expires_at,
    }
    # Left out rather than null: the unique index holds only what is there.
    if request.idempotency_key is not None:
        document["idempotency_key"] = request.idempotency_key
    if submission.callback is not None:
        document["callback"] = {"url": submission.callback.url}
    return document


def request_of(document: Document) -> Request:
    """The request in a document. Raises `UndecodableDocument`."""
    REQUEST.check(document)
    steps = tuple(
        Step(
            name=step["name"],
            service=step["service"],
            queue=step["queue"],
            input=json_of(step.get("input")),
            after=tuple(step["after"]),
            max_attempts=step["max_attempts"],
        )
        for step in document["steps"]
    )
    return Request(
        id=document["_id"],
        caller=caller_of(document),
        submission=Submission(
            steps=steps,
            variables=json_object_of(document.get("variables")),
            metadata=json_object_of(document.get("metadata")),
            priority=document["priority"],
            deadline=document["deadline_at"] - document["created_at"],
            callback=Callback(url=document["callback"]["url"]) if document.get("callback") else None,
        ),
        status=RequestStatus(document["status"]),
        planned=document["planned"],
        created_at=document["created_at"],
        deadline_at=document["deadline_at"],
        idempotency_key=document.get("idempotency_key"),
        fingerprint=document["fingerprint"],
        cancel_requested=document["cancel_requested"],
        retry_of=document.get("retry_of"),
        reused=tuple(document.get("reused") or ()),
        finished_at=document.get("finished_at"),
        expires_at=document.get("expires_at"),
    )


def caller_fields(caller: Caller) -> Document:
    """The fields that say on whose behalf a request or context is."""
    return {
        "organization_id": caller.organization_id,
        "user_id": caller.user_id,
        "correlation_id": caller.correlation_id,
        "trace": {"traceparent": caller.traceparent} if caller.traceparent else None,
    }


def caller_of(document: Mapping[str, Any]) -> Caller:
    """On whose behalf a request or context is, as its document says."""
    trace = document.get("trace") or {}
    return Caller(
        organization_id=document["organization_id"],
        user_id=document.get("user_id"),
        correlation_id=document.get("correlation_id"),
        traceparent=trace.get("traceparent"),
    )


def _lease_of(document: Mapping[str, Any] | None) -> Lease | None:
    if document is None:
        return None
    expires_at = _aware(document["expires_at"])
    return Lease(token=document["token"], worker=document["worker"], expires_at=expires_at)


def _aware(time: Any) -> Any:
    """A stored time, if there is one; what is naive is in UTC. (`replace` costs nine times as much.)"""
    return time if time is None or time.tzinfo is not None else _EPOCH + (time - _NAIVE_EPOCH)
