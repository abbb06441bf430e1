"""Request: what a client submits, and the plan of its steps."""

import re
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

import uuid_utils

from agent_service.domain.errors import UnstorableValue
from agent_service.domain.json_value import JsonValue, own_copy

#: Step and service names: short, safe in ids, paths, variables and environment names.
STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: More steps than this are refused.
MAX_STEPS = 100
#: The organization of every request where no API keys are in use.
DEFAULT_ORGANIZATION = "default"
#: The queue of a step that names none.
DEFAULT_QUEUE = "default"
#: The tries of a step whose service says nothing else.
DEFAULT_MAX_ATTEMPTS = 5


class RequestStatus(StrEnum):
    """Where a request stands."""

    #: Taken, and none of its steps has begun.
    ACCEPTED = "accepted"
    #: At least one of its steps has begun.
    RUNNING = "running"
    #: Every step completed.
    COMPLETED = "completed"
    #: At least one step failed.
    FAILED = "failed"
    #: At least one step was cancelled, and none failed.
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing about the request will ever change again."""
        return self in (RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the plan as it was submitted; `after` names the steps it waits for."""

    name: str
    service: str
    input: JsonValue
    after: tuple[str, ...] = ()
    queue: str = DEFAULT_QUEUE
    #: How many tries it has; a setting of its service, fixed when the request is taken.
    max_attempts: int = DEFAULT_MAX_ATTEMPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Where a client wants to be told that its request has ended."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A checked submission: its steps form a graph without cycles and its templates can be resolved."""

    steps: tuple[Step, ...]
    variables: Mapping[str, JsonValue] = field(default_factory=dict)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    priority: int = 0
    deadline: timedelta | None = None
    callback: Callback | None = None

    @property
    def sole(self) -> bool:
        """Whether the end of its only step is all that there is of it: not even a callback follows."""
        return len(self.steps) == 1 and self.callback is None


def own_submission(submission: Submission) -> Submission:
    """The same submission, of which whoever made it can change nothing. Raises `UnstorableValue`."""
    try:
        return replace(
            submission,
            steps=tuple(replace(step, input=own_copy(step.input)) for step in submission.steps),
            variables={name: own_copy(value) for name, value in submission.variables.items()},
            metadata={name: own_copy(value) for name, value in submission.metadata.items()},
        )
    except RecursionError as error:
        raise UnstorableValue("RecursionError: the value cannot be stored") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf a request is submitted, and what ties it to the caller's own records."""

    organization_id: str = DEFAULT_ORGANIZATION
    user_id: str | None = None
    correlation_id: str | None = None
    #: The W3C `traceparent` header that came with the submission.
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it is stored."""

    id: str
    caller: Caller
    submission: Submission
    status: RequestStatus
    planned: bool
    created_at: datetime
    deadline_at: datetime
    idempotency_key: str | None = None
    #: Digest of the submission; tells a replay from another body under the same key. Empty without a key.
    fingerprint: str
    cancel_requested: bool = False
    #: The ended request that this one repeats.
    retry_of: str | None = None
    #: The names of the steps whose results are copied from it.
    reused: tuple[str, ...] = ()
    finished_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def step_names(self) -> tuple[str, ...]:
        """The names of all steps, in the order of the submission."""
        return tuple(step.name for step in self.submission.steps)


def new_request_id() -> str:
    """A fresh request id: UUID version 7 (RFC 9562), so that ids sort by the time they were made."""
    # The standard library has version 7 from 3.14 on.
    if sys.version_info >= (3, 14):
        return str(uuid.uuid7())
    return str(uuid_utils.uuid7())


def request_ids_before(at: datetime) -> str:
    """A text that sorts after every id made before this time, and before every later one."""
    milliseconds = f"{int(at.timestamp() * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}"


def context_id(request_id: str, step: str) -> str:
    """The id of the context of one step; a request's contexts are one range of ids."""
    return f"{request_id}.{step}"
