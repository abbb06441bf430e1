"""Topics: what there is to wait for at the doorbell, and which changes in the database ring for it."""

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Any

from agent_service.domain.context import ContextStatus
from agent_service.store.driver import Document

#: Fields of a context that tell whoever works on it to stop.
STOP_FIELDS = ("cancel_requested", "deadline_passed")


class Topic(Enum):
    """What there is to wait for."""

    #: A context became claimable; the key is its service.
    WORK = auto()
    #: A context became claimable at a later time.
    SCHEDULE = auto()
    #: Something happened to a request: a state changed, a chunk was stored. The key is the request's id.
    PROGRESS = auto()
    #: A hold or the breaker of a base service changed; the key is the service.
    SERVICES = auto()
    #: Whoever works on a context is to stop; the key is the context's id.
    STOP = auto()


def pipeline_for(topics: frozenset[Topic]) -> Sequence[Document]:
    """The stream's filter: the server sends nothing that nobody here waits for."""
    wanted = [condition for topic in Topic if topic in topics for condition in _CONDITIONS[topic]]
    fields = ("status", *STOP_FIELDS)
    return [
        {"$match": {"$or": wanted}},
        {
            "$project": {
                "ns": 1,
                "documentKey": 1,
                "operationType": 1,
                "fullDocument.status": 1,
                "fullDocument.service": 1,
                **{f"updateDescription.updatedFields.{field}": 1 for field in fields},
            }
        },
    ]


def rings_of(change: Document) -> Iterator[tuple[Topic, str | None]]:
    """Which topics a change rings, each with its key; None rings for every key."""
    document_id = str(change["documentKey"]["_id"])
    collection = change["ns"]["coll"]
    if collection == "services":
        yield Topic.SERVICES, document_id
        return
    yield Topic.PROGRESS, document_id.split(":")[0].split(".")[0]
    if collection != "contexts":
        return
    document = change.get("fullDocument") or {}
    fields = change.get("updateDescription", {}).get("updatedFields", {})
    if any(fields.get(field) is True for field in STOP_FIELDS):
        yield Topic.STOP, document_id
    match document.get("status") or fields.get("status"):
        case ContextStatus.PENDING.value:
            yield Topic.WORK, document.get("service")
        case ContextStatus.SCHEDULED.value:
            yield Topic.SCHEDULE, None


def _becomes(status: ContextStatus) -> list[dict[str, Any]]:
    """Contexts that get this status, from the start or later."""
    return [
        {"ns.coll": "contexts", "operationType": "insert", "fullDocument.status": status.value},
        {
            "ns.coll": "contexts",
            "operationType": "update",
            "updateDescription.updatedFields.status": status.value,
        },
    ]


_CONDITIONS: dict[Topic, list[dict[str, Any]]] = {
    Topic.WORK: _becomes(ContextStatus.PENDING),
    Topic.SCHEDULE: _becomes(ContextStatus.SCHEDULED),
    Topic.PROGRESS: [
        {"ns.coll": "events", "operationType": "insert"},
        {
            "ns.coll": {"$in": ["contexts", "requests"]},
            "operationType": "update",
            "updateDescription.updatedFields.status": {"$exists": True},
        },
    ],
    Topic.SERVICES: [
        {"ns.coll": "services", "operationType": {"$in": ["insert", "replace", "delete"]}},
        # The counts of calls are nobody's business; what is, changes the revision as well.
        {
            "ns.coll": "services",
            "operationType": "update",
            "updateDescription.updatedFields.revision": {"$exists": True},
        },
    ],
    Topic.STOP: [
        {
            "ns.coll": "contexts",
            "operationType": "update",
            f"updateDescription.updatedFields.{field}": True,
        }
        for field in STOP_FIELDS
    ],
}
