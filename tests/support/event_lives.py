"""Lives of steps, as hypothesis draws them: all that is stored of a step and its chunks, moment by moment."""

import dataclasses
from datetime import UTC, datetime

from hypothesis import strategies as st

from agent_service.domain.context import AttemptOutcome, AttemptRecord, Context, ContextError, ContextStatus
from agent_service.domain.events import Chunk, ChunkPage, Cursor, Event, attempt_to_read, step_events
from tests.support.contexts import a_context

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = ContextError(code="server_error", message="500", retryable=True)


def blocked_context(step: str = "draft") -> Context:
    """A step of the request `r` that waits for another one."""
    return a_context(
        step,
        request_id="r",
        status=ContextStatus.BLOCKED,
        waiting_on=("first",),
        created_at=NOW,
        released_at=None,
    )


@dataclasses.dataclass
class Moment:
    """What is stored at one moment: the context, and all chunks of all its attempts."""

    context: Context
    chunks: list[Chunk]

    def page(self, cursor: Cursor, limit: int | None = None) -> ChunkPage:
        """The chunks that a reader at `cursor` needs next, at most so many."""
        wanted = attempt_to_read(self.context, cursor)
        chunks = [c for c in self.chunks if wanted and c.attempt == wanted[0] and c.seq > wanted[1]]
        return ChunkPage(chunks=chunks[:limit], complete=limit is None or len(chunks) < limit)

    def read(self, cursor: Cursor) -> list[Event]:
        """What a reader at `cursor` has not seen."""
        return step_events(self.context, self.page(cursor), cursor)


def life(attempts: list[tuple[int, bool]], end: ContextStatus, step: str = "draft") -> list[Moment]:
    """Every stored moment of a context with these (chunks, is retried) attempts and this end."""
    context = blocked_context(step)
    chunks: list[Chunk] = []
    moments = [Moment(context, [])]

    def add(**changes: object) -> None:
        nonlocal context
        context = dataclasses.replace(context, **changes)  # type: ignore[arg-type]  # any field, by name
        moments.append(Moment(context, list(chunks)))

    add(status=ContextStatus.PENDING, waiting_on=(), released_at=NOW)
    for number, (count, retried) in enumerate(attempts, start=1):
        add(status=ContextStatus.RUNNING, attempt=number, started_at=NOW)
        for seq in range(1, count + 1):
            chunks.append(
                Chunk(context_id=context.id, attempt=number, seq=seq, delta=f"{number}/{seq} ", at=NOW)
            )
            moments.append(Moment(context, list(chunks)))
        last = number == len(attempts)
        record = AttemptRecord(
            attempt=number,
            token="t",
            worker="w",
            started_at=NOW,
            ended_at=NOW,
            outcome=AttemptOutcome.RETRYING if retried and not last else AttemptOutcome.RELEASED,
            chunks=count,
            error=ERROR if retried else None,
        )
        if last:
            add(status=end, history=(*context.history, record), finished_at=NOW)
        else:
            add(status=ContextStatus.SCHEDULED, history=(*context.history, record))
    return moments


lives = st.builds(
    life,
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=4),
    st.sampled_from([ContextStatus.COMPLETED, ContextStatus.FAILED, ContextStatus.CANCELLED]),
)
