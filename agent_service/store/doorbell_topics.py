"""Topics: what there is to wait for at the doorbell, and which changes in the database ring for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import TypeVar

from agent_service.domain.context import ContextStatus
from agent_service.store.driver import Document

T = TypeVar("T")

#: Fields of a context that tell whoever works on it to stop.
STOP_FIELDS = ("cancel_requested", "deadline_passed")


class Topic(Enum):
    """What there is to wait for."""

    #: A context became claimable; the key is its service.
    WORK = auto()
    #: Somebody who had nothing to do claimed a single context; the key is the context's id.
    TAKEN = auto()
    #: A context became claimable at a later time.
    SCHEDULE = auto()
    #: Something happened to a request: a state changed, a chunk was stored. The key is the request's id.
    PROGRESS = auto()
    #: The status of a request changed, and nothing else of it; the key is the request's id.
    STATUS = auto()
    #: A hold or the breaker of a base service changed; the key is the service.
    SERVICES = auto()
    #: Whoever works on a context is to stop; the key is the context's id.
    STOP = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """News of a topic; what is None is not known, and a `key` of None is about everything."""

    topic: Topic
    key: str | None = None
    #: Of `WORK`: the context, and the queue that it waits in. Of `PROGRESS`: the context that it is about.
    context_id: str | None = None
    queue: str | None = None
    #: Of `PROGRESS`: whether nothing but a chunk was stored.
    is_chunk: bool = False
    #: Of `SCHEDULE`: when the context becomes claimable.
    run_at: datetime | None = None


def pipeline_for(topics: frozenset[Topic]) -> Sequence[Document]:
    """
    The stream's filter: the server sends next to nothing that nobody here waits for.

    It looks at every write of the whole database, so it is kept flat: one condition on the collection, and
    then as few as can be. With a list of complete conditions the server spent twice as much on it.
    """
    fields = ("status", "run_at", "lease.lone", *STOP_FIELDS)
    return [
        {"$match": {"ns.coll": {"$in": sorted(_collections(topics))}, "$or": list(_conditions(topics))}},
        {
            "$project": {
                "ns": 1,
                "documentKey": 1,
                "operationType": 1,
                "fullDocument.status": 1,
                "fullDocument.service": 1,
                "fullDocument.queue": 1,
                "fullDocument.run_at": 1,
                **{f"{_UPDATED}.{field}": 1 for field in fields},
            }
        },
    ]


def rings_of(change: Document) -> Iterator[Ring]:
    """What a change rings for."""
    document_id = str(change["documentKey"]["_id"])
    collection = change["ns"]["coll"]
    if collection == "services":
        yield Ring(topic=Topic.SERVICES, key=document_id)
        return
    yield _progress(collection, document_id)
    if collection == "requests":
        yield Ring(topic=Topic.STATUS, key=document_id)
    if collection != "contexts":
        return
    document = change.get("fullDocument") or {}
    fields = change.get("updateDescription", {}).get("updatedFields", {})
    if any(fields.get(field) is True for field in STOP_FIELDS):
        yield Ring(topic=Topic.STOP, key=document_id)
    match document.get("status") or fields.get("status"):
        case ContextStatus.PENDING.value:
            service, queue = _read(document, "service", str), _read(document, "queue", str)
            yield Ring(topic=Topic.WORK, key=service, context_id=document_id, queue=queue)
        case ContextStatus.SCHEDULED.value:
            run_at = _read(document, "run_at", datetime) or _read(fields, "run_at", datetime)
            yield Ring(topic=Topic.SCHEDULE, run_at=run_at)
        case ContextStatus.RUNNING.value if (_read(fields, "lease", dict) or {}).get("lone"):
            yield Ring(topic=Topic.TAKEN, key=document_id)


def _read(document: Document, name: str, kind: type[T]) -> T | None:
    """The field, if it is what it should be; somebody may have written anything."""
    value = document.get(name)
    return value if isinstance(value, kind) else None


def _progress(collection: str, document_id: str) -> Ring:
    """What happened to a request: to itself, to a context, or that a chunk of a context was stored."""
    context_id = document_id.partition(":")[0]
    return Ring(
        topic=Topic.PROGRESS,
        key=context_id.partition(".")[0],
        context_id=None if collection == "requests" else context_id,
        is_chunk=collection == "events",
    )


#: The fields of an update, as the stream names them.
_UPDATED = "updateDescription.updatedFields"
#: The topics that contexts ring for which get a status.
_STATUSES = {Topic.WORK: ContextStatus.PENDING.value, Topic.SCHEDULE: ContextStatus.SCHEDULED.value}


def _collections(topics: frozenset[Topic]) -> set[str]:
    """Where something happens that these topics are about."""
    names = {"contexts"} if topics - {Topic.SERVICES, Topic.STATUS} else set()
    if Topic.STATUS in topics:
        names.add("requests")
    if Topic.PROGRESS in topics:
        names |= {"events", "requests"}
    if Topic.SERVICES in topics:
        names.add("services")
    return names


def _conditions(topics: frozenset[Topic]) -> Iterator[Document]:
    """What happens there; fields of which a collection has none need no mention of another one."""
    statuses = [status for topic, status in _STATUSES.items() if topic in topics]
    if statuses:
        yield {"operationType": "insert", "fullDocument.status": {"$in": statuses}}
    if Topic.PROGRESS in topics:
        yield {"operationType": "insert", "ns.coll": "events"}
        yield {f"{_UPDATED}.status": {"$exists": True}}
    elif statuses:
        yield {f"{_UPDATED}.status": {"$in": statuses}}
    if Topic.STATUS in topics and Topic.PROGRESS not in topics:
        yield {"ns.coll": "requests", f"{_UPDATED}.status": {"$exists": True}}
    if Topic.TAKEN in topics:
        # Only who had nothing to do says so: what is claimed under load concerns nobody else.
        yield {f"{_UPDATED}.lease.lone": True}
    if Topic.STOP in topics:
        for field in STOP_FIELDS:
            yield {f"{_UPDATED}.{field}": True}
    if Topic.SERVICES in topics:
        yield {"operationType": {"$in": ["insert", "replace", "delete"]}, "ns.coll": "services"}
        # The counts of calls are nobody's business; what is, changes the revision as well.
        yield {f"{_UPDATED}.revision": {"$exists": True}}
