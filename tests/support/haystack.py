"""A database in which almost everything is none of a query's business."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from agent_service.domain.callback import callback_id
from agent_service.domain.context import Context, ContextStatus, Lease
from agent_service.domain.request import Caller, RequestStatus
from agent_service.store.chunks import chunk_id
from agent_service.store.documents import context_document, request_document
from agent_service.store.indexes import INDEXES
from tests.support.contexts import NOW, SECOND, a_context, a_request, a_step
from tests.support.explained_commands import Document

COLLECTIONS = ("contexts", "requests", "events")
#: One lease for all needles that run, as after a claim of a batch.
LEASE = Lease(token="needle-token", worker="worker", expires_at=NOW - SECOND)
LATER = NOW + timedelta(hours=1)

#: Of some requests in every organization.
CORRELATION_ID = "correlation"

#: How many there are of each kind.
EACH = 400
NEEDLES = 6


def needle_id(kind: str, number: int = 0) -> str:
    """The id of a request with one context of a kind, which sorts in the midst of the others."""
    return f"needle-{kind}-{number}"


def needle_contexts(kind: str) -> list[str]:
    """The ids of all contexts of a kind."""
    return [f"{needle_id(kind, number)}.draft" for number in range(NEEDLES)]


def prepare(client: MongoClient[Document], name: str) -> None:
    """Fill the database `name` with its indexes, the haystack and the needles."""
    database = client[name]
    for index in INDEXES:
        database[index.collection].create_indexes([index.model()])
    contexts, requests, events = _hay()
    database["contexts"].insert_many(contexts)
    database["requests"].insert_many(requests)
    database["events"].insert_many(events)
    restore_needles(database)


def restore_needles(database: Database[Document]) -> None:
    """Put the needles back as they were at first."""
    for collection in COLLECTIONS:
        database[collection].delete_many({"_id": {"$gte": "needle", "$lt": "needlf"}})
    database["contexts"].insert_many(_needle_context_documents())
    database["requests"].insert_many(
        request_document(
            replace(
                a_request(a_step("draft"), a_step("check", "draft"), a_step("note", "draft")),
                id=needle_id(kind, number),
                caller=Caller(correlation_id=CORRELATION_ID if kind == "failed" else None),
                idempotency_key=f"key-{kind}-{number}",
                created_at=NOW - SECOND,
                planned=kind != "unplanned",
                cancel_requested=kind == "cancelling",
                deadline_at=NOW - SECOND if kind == "overdue" else LATER,
                status=RequestStatus.FAILED if kind == "failed" else RequestStatus.ACCEPTED,
                finished_at=NOW - SECOND if kind == "failed" else None,
            )
        )
        for kind in ("ended", "unplanned", "cancelling", "overdue", "failed")
        for number in range(NEEDLES)
    )
    context_id = f"{needle_id('ended')}.draft"
    database["events"].insert_many(_chunks(context_id, 1) + _chunks(context_id, 2))


def _needle_context_documents() -> Iterable[Document]:
    for number in range(NEEDLES):
        yield _context("pending", number, status=ContextStatus.PENDING, rank=number)
        yield _context("fast", number, status=ContextStatus.PENDING, queue="fast", rank=number)
        yield _context("due", number, status=ContextStatus.SCHEDULED, run_at=NOW - SECOND)
        yield _context("running", number, status=ContextStatus.RUNNING) | {"lease": _stored(LEASE)}
        ended: dict[str, Any] = {"settled": False, "finished_at": NOW - SECOND}
        yield _context("ended", number, status=ContextStatus.COMPLETED, **ended)
        waiting: dict[str, Any] = {"status": ContextStatus.BLOCKED, "waiting_on": ("draft",)}
        yield _context("ended", number, step="check", **waiting)
        yield _context("ended", number, step="note", **waiting)
        delivery: dict[str, Any] = {"id": callback_id(needle_id("dead", number)), "service": "callback"}
        yield _context("dead", number, **delivery, **(ended | {"settled": True}), status=ContextStatus.FAILED)


def _context(kind: str, number: int, *, step: str = "draft", **changes: Any) -> Document:
    return context_document(a_context(step, request_id=needle_id(kind, number), **changes))


def _stored(lease: Lease) -> Document:
    return {"token": lease.token, "worker": lease.worker, "expires_at": lease.expires_at}


def _hay() -> tuple[list[Document], list[Document], list[Document]]:
    kinds: list[dict[str, Any]] = [
        {"service": "analysis"},
        {"queue": "slow"},
        {"caller": Caller(organization_id="other")},
        {"priority": 1},
        {"status": ContextStatus.SCHEDULED, "run_at": LATER},
        {"status": ContextStatus.RUNNING},
        {"status": ContextStatus.COMPLETED, "settled": True, "finished_at": NOW - timedelta(hours=1)},
        {"status": ContextStatus.FAILED, "settled": False, "finished_at": LATER},
        {"status": ContextStatus.BLOCKED, "waiting_on": ("outline",)},
    ]
    contexts = []
    requests = []
    events = []
    for kind, changes in enumerate(kinds):
        for number in range(EACH):
            # Half of the ids sort before those of the needles and half after.
            request_id = f"{'az'[number % 2]}-{kind}-{number}"
            context: Context = a_context(request_id=request_id, rank=number, **changes)
            document = context_document(context)
            if context.status is ContextStatus.RUNNING:
                lease = Lease(token=f"token-{number % 50}", worker="other", expires_at=LATER)
                document["lease"] = _stored(lease)
            contexts.append(document)
            events += _chunks(context.id, 1)[: number % 2]
            requests.append(
                request_document(
                    a_request(
                        id=request_id,
                        caller=Caller(
                            organization_id=f"organization-{number % 5}",
                            correlation_id=CORRELATION_ID if number % 2 else None,
                        ),
                        planned=number % 3 > 0,
                        created_at=LATER,
                        deadline_at=LATER + timedelta(days=1),
                        status=RequestStatus.FAILED if kind == 7 else RequestStatus.RUNNING,
                        finished_at=LATER if kind == 7 else None,
                        idempotency_key=f"key-{kind}-{number}" if number % 2 else None,
                    )
                )
            )
    return contexts, requests, events


def _chunks(context_id: str, attempt: int) -> list[Document]:
    return [
        {
            "_id": chunk_id(context_id, attempt, seq),
            "schema": 1,
            "context_id": context_id,
            "attempt": attempt,
            "seq": seq,
            "delta": "text",
            "at": NOW,
            "expires_at": None,
        }
        for seq in range(1, 11)
    ]
