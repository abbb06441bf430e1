"""Notification: what one process says to the others, and the topics that one can subscribe to."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from agent_service.domain.line import Line


class Topic(Enum):
    """What there is to wait for; the value is its name in MongoDB."""

    #: A context became claimable; the key is its service.
    WORK = "work"
    #: Somebody who had nothing to do claimed a single context; the key is its service.
    TAKEN = "taken"
    #: A context became claimable at a later time.
    SCHEDULE = "schedule"
    #: A hold or the breaker of a base service changed; the key is the service.
    SERVICES = "services"
    #: Whoever works on a context of a request is to stop; the key is the request's id.
    STOP = "stop"
    #: Something happened to a request: a state changed, a chunk was stored. The key is the request's id.
    PROGRESS = "progress"
    #: Something happened to the document of a request, such as its end; the key is the request's id.
    STATUS = "status"


#: The topics of those who read requests; all others are of those who do the work.
ABOUT_REQUESTS = frozenset({Topic.PROGRESS, Topic.STATUS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """That something changed; what is None is not known, and a `key` of None is about everything."""

    topic: Topic
    key: str | None = None
    #: Of `WORK`, `TAKEN` and `PROGRESS`: the context that it is about.
    context_id: str | None = None
    #: Of `WORK`: where the context waits, and its rank there; without a `context_id` several do, and it is
    #: the smallest of their ranks.
    line: Line | None = None
    rank: int | None = None
    #: Of `PROGRESS`: whether nothing but a chunk was stored.
    is_chunk: bool = False
    #: Of `SCHEDULE`: when the context becomes claimable.
    run_at: datetime | None = None
