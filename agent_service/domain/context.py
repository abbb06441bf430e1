"""Service context: the stored unit of work of one step, the thing that workers claim."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agent_service.domain.json_value import JsonObject, JsonValue
from agent_service.domain.line import Line
from agent_service.domain.request import Caller


class ContextStatus(StrEnum):
    """Where a context stands; `pending` always means claimable now."""

    #: Waits for other steps of its request.
    BLOCKED = "blocked"
    #: Claimable from `run_at` on: delayed, or backing off.
    SCHEDULED = "scheduled"
    #: Claimable now.
    PENDING = "pending"
    #: Claimed by a worker that holds its lease.
    RUNNING = "running"
    #: Done, with an output.
    COMPLETED = "completed"
    #: Ended without an output; `error` says why.
    FAILED = "failed"
    #: Ended because somebody asked for it, or because a step that it needed did not complete.
    CANCELLED = "cancelled"

    # That of enumerations is written in Python, and each attempt asks several times.
    __hash__ = str.__hash__

    @property
    def ended(self) -> bool:
        """Whether the context will never change again."""
        return self in ENDED


#: The three ends of a context.
ENDED = frozenset({ContextStatus.COMPLETED, ContextStatus.FAILED, ContextStatus.CANCELLED})


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    #: The base service answered with an output.
    COMPLETED = "completed"
    #: It failed, and is tried again at `run_at`.
    RETRYING = "retrying"
    #: It failed, and there is no further try.
    FAILED = "failed"
    #: It was stopped because its request was cancelled.
    CANCELLED = "cancelled"
    #: The worker handed it back unfinished; the try does not count.
    RELEASED = "released"
    #: The worker fell silent; the rescuer took the context back.
    LEASE_LOST = "lease_lost"

    # As above.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to one attempt until `expires_at` (server time); the token never changes."""

    token: str
    worker: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextError:
    """Why an attempt or a context did not complete. `code` is stable, `message` is for people."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One past attempt; `chunks` is how many output chunks it stored."""

    attempt: int
    token: str
    worker: str
    started_at: datetime
    ended_at: datetime
    outcome: AttemptOutcome
    chunks: int
    error: ContextError | None = None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """
    A context as it is stored.

    `attempt` only ever grows; `tries` is what `max_attempts` limits, and a refund lowers it.
    """

    id: str
    request_id: str
    step: str
    service: str
    queue: str
    caller: Caller
    status: ContextStatus
    priority: int
    #: Order within a priority, smaller first: the submission time in microseconds.
    rank: int
    run_at: datetime
    #: Names of the steps that it still waits for.
    waiting_on: tuple[str, ...]
    input: JsonValue
    metadata: JsonObject = field(default_factory=dict)
    idempotency_key: str
    attempt: int = 0
    tries: int = 0
    max_attempts: int
    #: Whether it is the only step of its request, so that its end is that of the request, and all there is.
    sole: bool = False
    #: How often a worker fell silent while it held this context.
    leases_lost: int = 0
    lease: Lease | None = None
    cancel_requested: bool = False
    deadline_passed: bool = False
    output: JsonValue = None
    usage: Mapping[str, JsonValue] | None = None
    error: ContextError | None = None
    history: tuple[AttemptRecord, ...] = ()
    #: False from the end of the context until all that follows from it is written.
    settled: bool | None = None
    created_at: datetime
    deadline_at: datetime
    #: When it first became claimable.
    released_at: datetime | None = None
    #: When the latest attempt began.
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def line(self) -> Line:
        """Where it stands while it is pending."""
        return Line(self.service, self.queue, self.priority, self.caller.organization_id)
