"""
Events: what a client sees while it waits, derived from what is stored (protocol, rule 14).

The position of a step is `attempt.index`: index 0 is the start of the attempt, 1…N its chunks and N+1 its
outcome; `0.0` says that the step became claimable, and `end` that it ended. The position of the request is
`@0` once accepted and `@end` once ended. A cursor is all of them: `@0,draft:1.17,check:1.3`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from agent_service.domain.context import AttemptRecord, Context, ContextError
from agent_service.domain.request import Request

#: The attempt number of a position that stands for the end of its step: above every real one.
_END = 2**53


class EventType(StrEnum):
    """The names of all events, as they stand in SSE's `event:` field."""

    REQUEST_ACCEPTED = "request.accepted"
    STEP_PENDING = "step.pending"
    #: An attempt begins: forget what this step streamed so far.
    STEP_RUNNING = "step.running"
    OUTPUT_DELTA = "output.delta"
    STEP_RETRYING = "step.retrying"
    STEP_COMPLETED = "step.completed"
    STEP_FAILED = "step.failed"
    STEP_CANCELLED = "step.cancelled"
    REQUEST_COMPLETED = "request.completed"
    REQUEST_FAILED = "request.failed"
    REQUEST_CANCELLED = "request.cancelled"


class InvalidCursor(ValueError):
    """The text is not a cursor of an event stream; send back an `id` of the stream as it was."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """How far a reader has come within one step."""

    attempt: int
    index: int

    def __str__(self) -> str:
        return "end" if self.attempt == _END else f"{self.attempt}.{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `attempt.index` or `end`; raises `InvalidCursor`."""
        if text == "end":
            return cls(attempt=_END, index=0)
        attempt, dot, index = text.partition(".")
        if not dot or not _is_number(attempt) or not _is_number(index):
            raise InvalidCursor(f"{text!r} is not a position such as 1.17 or end")
        return cls(attempt=int(attempt), index=int(index))


STEP_END = Position(attempt=_END, index=0)
STEP_PENDING = Position(attempt=0, index=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a reader has come in all of a request."""

    accepted: bool = False
    ended: bool = False
    steps: Mapping[str, Position] = field(default_factory=dict)

    def __str__(self) -> str:
        head = "@end" if self.ended else "@0"
        return ",".join([head, *(f"{name}:{position}" for name, position in self.steps.items())])

    def is_at_end_of(self, step: str) -> bool:
        """Whether the end of this step was read."""
        return self.steps.get(step) == STEP_END

    def check(self, request: Request) -> None:
        """Raise `InvalidCursor` if this can be no cursor of `request`."""
        if not set(self.steps) <= set(request.step_names):
            raise InvalidCursor("the cursor names a step that this request does not have")
        if self.ended and not request.status.ended:
            raise InvalidCursor("the cursor says that this request has ended, which it has not")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; raises `InvalidCursor`."""
        head, *rest = text.split(",")
        if head not in ("@0", "@end"):
            raise InvalidCursor("a cursor begins with @0 or @end")
        steps = {}
        for part in rest:
            name, colon, position = part.partition(":")
            if not colon or not name or name in steps:
                raise InvalidCursor(f"{part!r} is not a step's position such as draft:1.17")
            steps[name] = Position.parse(position)
        return cls(accepted=True, ended=head == "@end", steps=steps)

    def at(self, step: str, position: Position) -> Self:
        """The cursor after something of `step` was read."""
        return replace(self, steps={**self.steps, step: position})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of streamed output: number `seq` (from 1) of one attempt."""

    context_id: str
    attempt: int
    seq: int
    delta: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPage:
    """Chunks of one attempt, in order, from some number on; not `complete` where more may follow them."""

    chunks: Sequence[Chunk] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a request's stream; `cursor` is its id, unique in the stream."""

    type: EventType
    request_id: str
    at: datetime
    cursor: Cursor
    step: str | None = None
    attempt: int | None = None
    seq: int | None = None
    delta: str | None = None
    error: ContextError | None = None
    run_at: datetime | None = None


def request_accepted(request: Request) -> Event:
    """The first event of every stream."""
    return Event(
        type=EventType.REQUEST_ACCEPTED,
        request_id=request.id,
        at=request.created_at,
        cursor=Cursor(accepted=True),
    )


def request_ended(request: Request, cursor: Cursor) -> Event:
    """The last event of every stream; the request must have ended."""
    return Event(
        type=EventType(f"request.{request.status}"),
        request_id=request.id,
        at=request.finished_at or request.created_at,
        cursor=replace(cursor, ended=True),
    )


def attempt_to_read(context: Context, cursor: Cursor) -> tuple[int, int] | None:
    """
    Which chunks a reader needs next: (attempt, the last index it has), or None.

    Chunks of attempts that were replaced are never asked for.
    """
    position = cursor.steps.get(context.step)
    if position is None or position.attempt < context.attempt:
        return (context.attempt, 0) if context.attempt else None
    # A position beyond the attempt is the end, one that somebody made up, or newer than what was read here.
    return (context.attempt, position.index) if position.attempt == context.attempt > 0 else None


def promised_chunks(context: Context) -> int:
    """How many chunks of the latest attempt there must be; 0 while it has not said so, because it goes on."""
    record = context.history[-1] if context.history else None
    return record.chunks if record is not None and record.attempt == context.attempt else 0


def step_events(context: Context, page: ChunkPage, cursor: Cursor) -> list[Event]:
    """
    What a reader at `cursor` has not seen of one step, in order; never below what it has seen.

    `page` has the chunks that `attempt_to_read` named, read after the context; how the attempt ended is told
    only behind all of them.
    """
    reader = _StepReader(context, cursor)
    if context.released_at is not None:
        reader.emit(EventType.STEP_PENDING, STEP_PENDING, at=context.released_at, attempt=0)
    for record in context.history:
        reader.past_attempt(record)
    if context.attempt:
        reader.start(context.attempt, context.started_at or context.created_at)
    for chunk in page.chunks:
        reader.chunk(chunk)
    if page.complete:
        reader.outcome()
    return reader.events


class _StepReader:
    """Collects the events of one step and moves the cursor along; emits nothing at or below it."""

    def __init__(self, context: Context, cursor: Cursor) -> None:
        self.context = context
        self.cursor = cursor
        self.events: list[Event] = []

    def emit(
        self,
        kind: EventType,
        position: Position,
        *,
        at: datetime,
        attempt: int | None = None,
        chunk: Chunk | None = None,
        error: ContextError | None = None,
        run_at: datetime | None = None,
    ) -> None:
        seen = self.cursor.steps.get(self.context.step)
        if seen is not None and position <= seen:
            return
        self.cursor = self.cursor.at(self.context.step, position)
        self.events.append(
            Event(
                type=kind,
                request_id=self.context.request_id,
                at=at,
                cursor=self.cursor,
                step=self.context.step,
                attempt=self.context.attempt if attempt is None else attempt,
                seq=None if chunk is None else chunk.seq,
                delta=None if chunk is None else chunk.delta,
                error=error,
                run_at=run_at,
            )
        )

    def past_attempt(self, record: AttemptRecord) -> None:
        """An attempt that ended without ending the step; its chunks are skipped."""
        latest = record.attempt == self.context.attempt
        if not latest:
            self.start(record.attempt, record.started_at)
            self.retrying(record)

    def start(self, attempt: int, at: datetime) -> None:
        self.emit(EventType.STEP_RUNNING, Position(attempt=attempt, index=0), at=at, attempt=attempt)

    def retrying(self, record: AttemptRecord) -> None:
        self.emit(
            EventType.STEP_RETRYING,
            Position(attempt=record.attempt, index=record.chunks + 1),
            at=record.ended_at,
            attempt=record.attempt,
            error=record.error,
            run_at=record.run_at,
        )

    def chunk(self, chunk: Chunk) -> None:
        if chunk.attempt == self.context.attempt:
            position = Position(attempt=chunk.attempt, index=chunk.seq)
            self.emit(EventType.OUTPUT_DELTA, position, at=chunk.at, attempt=chunk.attempt, chunk=chunk)

    def outcome(self) -> None:
        """How the latest attempt ended, if it has, and then how the step ended, if it has."""
        context = self.context
        if context.status.ended:
            kind = EventType(f"step.{context.status}")
            at = context.finished_at or context.created_at
            self.emit(kind, STEP_END, at=at, error=context.error)
        elif context.history and context.history[-1].attempt == context.attempt:
            self.retrying(context.history[-1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
