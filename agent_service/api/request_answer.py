"""RequestAnswer: a request as a client is shown it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import orjson
from pydantic import WithJsonSchema

from agent_service.domain.context import AttemptOutcome, AttemptRecord, Context, ContextError, ContextStatus
from agent_service.domain.request import RequestStatus, Step
from agent_service.request_reader import RequestView

#: A moment in UTC to the millisecond, which is what MongoDB keeps: 2026-01-31T12:00:00.000Z.
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
AnyJson = Annotated[object, WithJsonSchema({"description": "any JSON value"})]
AnyObject = Annotated[object, WithJsonSchema({"type": "object"})]
ObjectOrNull = Annotated[object, WithJsonSchema({"type": ["object", "null"]})]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """Why an attempt or a step did not complete: `code` is stable, `message` is for people."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptAnswer:
    """One attempt that has ended; `run_at` says from when on the next one was possible."""

    attempt: int
    started_at: Moment
    ended_at: Moment
    outcome: AttemptOutcome
    error: ErrorAnswer | None
    run_at: Moment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnswer:
    """
    One step; `attempt` is 0 before a worker has claimed it, and where its result was copied.

    `tries` are the attempts that count, of `max_attempts`; `attempts` the latest ones that have ended, oldest
    first, 50 at most.
    """

    name: str
    service: str
    status: ContextStatus
    attempt: int
    tries: int
    max_attempts: int
    output: AnyJson
    error: ErrorAnswer | None
    usage: ObjectOrNull
    attempts: tuple[AttemptAnswer, ...]
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswer:
    """
    A request and its steps, in the order of the submission; `links` are paths of this API.

    `retry_of` is the id of the request that this one repeats.
    """

    id: str
    status: RequestStatus
    steps: tuple[StepAnswer, ...]
    metadata: AnyObject
    priority: int
    retry_of: str | None
    created_at: Moment
    deadline_at: Moment
    finished_at: Moment | None
    links: dict[str, str]

    def to_json(self) -> bytes:
        """The body of an answer."""
        return orjson.dumps(self)


def request_answer(view: RequestView) -> RequestAnswer:
    """A view as it is shown; a step whose context is not inserted yet is shown as it was planned."""
    request = view.request
    contexts = {context.step: context for context in view.contexts}
    created_at = moment(request.created_at)
    return RequestAnswer(
        id=request.id,
        status=view.status,
        steps=tuple(
            _step(step, contexts.get(step.name), created_at=created_at) for step in request.submission.steps
        ),
        metadata=request.submission.metadata,
        priority=request.submission.priority,
        retry_of=request.retry_of,
        created_at=created_at,
        deadline_at=moment(request.deadline_at),
        finished_at=moment_or_none(request.finished_at),
        links=request_links(request.id),
    )


def request_path(request_id: str) -> str:
    """Where a request is found."""
    return f"/v1/requests/{request_id}"


def request_links(request_id: str) -> dict[str, str]:
    """Where a request and what belongs to it is found."""
    return {"self": request_path(request_id), "events": f"{request_path(request_id)}/events"}


def error_answer(error: ContextError | None) -> ErrorAnswer | None:
    """An error as it is shown."""
    if error is None:
        return None
    return ErrorAnswer(code=error.code, message=error.message, retryable=error.retryable)


def moment(at: datetime) -> str:
    """RFC 3339 in UTC, in milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def moment_or_none(at: datetime | None) -> str | None:
    """Like `moment`, where there may be none."""
    return None if at is None else moment(at)


def _step(step: Step, context: Context | None, *, created_at: str) -> StepAnswer:
    """A step of a request that was made then."""
    if context is None:
        return StepAnswer(
            name=step.name,
            service=step.service,
            status=ContextStatus.BLOCKED if step.after else ContextStatus.PENDING,
            attempt=0,
            tries=0,
            max_attempts=step.max_attempts,
            output=None,
            error=None,
            usage=None,
            attempts=(),
            created_at=created_at,
            started_at=None,
            finished_at=None,
        )
    return StepAnswer(
        name=step.name,
        service=context.service,
        status=context.status,
        attempt=context.attempt,
        tries=context.tries,
        max_attempts=context.max_attempts,
        output=context.output,
        error=error_answer(context.error),
        usage=context.usage,
        attempts=tuple(_attempt(record) for record in context.history),
        created_at=moment(context.created_at),
        started_at=moment_or_none(context.started_at),
        finished_at=moment_or_none(context.finished_at),
    )


def _attempt(record: AttemptRecord) -> AttemptAnswer:
    return AttemptAnswer(
        attempt=record.attempt,
        started_at=moment(record.started_at),
        ended_at=moment(record.ended_at),
        outcome=record.outcome,
        error=error_answer(record.error),
        run_at=moment_or_none(record.run_at),
    )
