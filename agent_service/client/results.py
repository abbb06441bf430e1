"""RequestResult and its parts: a request as the API shows it, read so that a later version breaks nothing."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from agent_service.client.json_fields import (
    as_object,
    integer_of,
    moment_or_none,
    object_of,
    objects_of,
    text_of,
    text_or_none,
)
from agent_service.domain.errors import NotCompleted
from agent_service.domain.json_value import JsonObject, JsonValue
from agent_service.domain.request import RequestStatus

_ENDS = frozenset(status for status in RequestStatus if status.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorResult:
    """Why an attempt or a step did not complete: `code` is stable, `message` is for people."""

    code: str
    message: str
    retryable: bool
    raw: JsonObject = field(repr=False)

    @classmethod
    def find(cls, raw: JsonObject) -> Self | None:
        """The error in the field `error`, if there is one."""
        error = as_object(raw.get("error"))
        if error is None:
            return None
        return cls(
            code=text_of(error, "code"),
            message=text_of(error, "message"),
            retryable=error.get("retryable") is True,
            raw=error,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """One attempt that has ended; `run_at` says from when on the next one was possible."""

    attempt: int
    outcome: str
    started_at: datetime | None
    ended_at: datetime | None
    error: ErrorResult | None
    run_at: datetime | None
    raw: JsonObject = field(repr=False)

    @classmethod
    def read(cls, raw: JsonObject) -> Self:
        """An attempt as the API shows it."""
        return cls(
            attempt=integer_of(raw, "attempt"),
            outcome=text_of(raw, "outcome"),
            started_at=moment_or_none(raw, "started_at"),
            ended_at=moment_or_none(raw, "ended_at"),
            error=ErrorResult.find(raw),
            run_at=moment_or_none(raw, "run_at"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step; `status` is one of `ContextStatus`, or one that a later version has added."""

    name: str
    service: str
    status: str
    #: 0 before a worker has claimed it.
    attempt: int
    output: JsonValue
    error: ErrorResult | None
    usage: JsonObject | None
    #: Those that have ended, oldest first, 50 at most.
    attempts: tuple[AttemptResult, ...]
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    raw: JsonObject = field(repr=False)

    @classmethod
    def read(cls, raw: JsonObject) -> Self:
        """A step as the API shows it."""
        return cls(
            name=text_of(raw, "name"),
            service=text_of(raw, "service"),
            status=text_of(raw, "status"),
            attempt=integer_of(raw, "attempt"),
            output=raw.get("output"),
            error=ErrorResult.find(raw),
            usage=as_object(raw.get("usage")),
            attempts=tuple(AttemptResult.read(attempt) for attempt in objects_of(raw, "attempts")),
            created_at=moment_or_none(raw, "created_at"),
            started_at=moment_or_none(raw, "started_at"),
            finished_at=moment_or_none(raw, "finished_at"),
            raw=raw,
        )

    @property
    def duration(self) -> timedelta | None:
        """From the start of the last attempt to the end of the step; None before that."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """
    A request and its steps, in the order of the submission; `raw` is all that the API said.

    `status` is one of `RequestStatus`, or one that a later version has added.
    """

    id: str
    status: str
    steps: tuple[StepResult, ...]
    metadata: JsonObject
    priority: int
    #: The request that this one repeats.
    retry_of: str | None
    created_at: datetime | None
    deadline_at: datetime | None
    finished_at: datetime | None
    raw: JsonObject = field(repr=False)

    @classmethod
    def read(cls, raw: JsonObject) -> Self:
        """A request as the API shows it."""
        return cls(
            id=text_of(raw, "id"),
            status=text_of(raw, "status"),
            steps=tuple(StepResult.read(step) for step in objects_of(raw, "steps")),
            metadata=object_of(raw, "metadata"),
            priority=integer_of(raw, "priority"),
            retry_of=text_or_none(raw, "retry_of"),
            created_at=moment_or_none(raw, "created_at"),
            deadline_at=moment_or_none(raw, "deadline_at"),
            finished_at=moment_or_none(raw, "finished_at"),
            raw=raw,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing about the request will ever change again."""
        return self.status in _ENDS or self.finished_at is not None

    @property
    def completed(self) -> bool:
        """Whether every step completed."""
        return self.status == RequestStatus.COMPLETED

    def step(self, name: str) -> StepResult:
        """The step of this name. Raises LookupError."""
        found = next((step for step in self.steps if step.name == name), None)
        if found is None:
            names = ", ".join(step.name for step in self.steps)
            raise LookupError(f"the request {self.id} has no step {name!r}; it has {names or 'none'}")
        return found

    def raise_unless_completed(self) -> None:
        """Raises `NotCompleted` with the first error of a step, unless every step completed."""
        if self.completed:
            return
        broken = next((step for step in self.steps if step.error is not None), None)
        error = None if broken is None else broken.error
        raise NotCompleted(
            self.id,
            status=self.status,
            step=None if broken is None else broken.name,
            code="" if error is None else error.code,
            detail="" if error is None else error.message,
        )
