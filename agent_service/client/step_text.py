"""TextPiece: the text that steps stream, and when to forget what came before."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from agent_service.client.request_event import RequestEvent
from agent_service.domain.errors import BaseServiceRejected, NotCompleted
from agent_service.domain.events import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """
    A piece of the text of one step.

    `restarted` says that a further attempt replaces what came before: forget the text of this step so far.
    Such a piece has no text of its own.
    """

    step: str
    text: str
    attempt: int
    restarted: bool = False


async def read_text(
    events: AsyncIterator[RequestEvent], *, request_id: str, step: str | None
) -> AsyncGenerator[TextPiece, None]:
    """The text in the events of a request, of all steps or of one; see `AgentClient.text`."""
    reader = _TextReader()
    async for event in events:
        if event.ends_request:
            _end(event, request_id, step)
            return
        if event.step is None or step not in (None, event.step):
            continue
        for piece in reader.read(event.step, event):
            yield piece
        if step is not None and event.type in (EventType.STEP_FAILED, EventType.STEP_CANCELLED):
            raise _not_completed(event, request_id)
        if step is not None and event.type == EventType.STEP_COMPLETED:
            return


@dataclass(slots=True)
class _TextReader:
    """Remembers, for each step that has shown text, of which attempt that was."""

    _shown: dict[str, int] = field(default_factory=dict)

    def read(self, step: str, event: RequestEvent) -> list[TextPiece]:
        """What one event of a step adds to its text."""
        if event.type not in (EventType.STEP_RUNNING, EventType.OUTPUT_DELTA):
            return []
        attempt = event.attempt or 0
        pieces = []
        if self._shown.get(step, attempt) != attempt:
            del self._shown[step]
            pieces.append(TextPiece(step=step, text="", attempt=attempt, restarted=True))
        if event.delta:
            self._shown[step] = attempt
            pieces.append(TextPiece(step=step, text=event.delta, attempt=attempt))
        return pieces


def _end(event: RequestEvent, request_id: str, step: str | None) -> None:
    if step is not None:
        raise BaseServiceRejected("unknown_step", f"the request {request_id} has no step {step!r}")
    if event.type != EventType.REQUEST_COMPLETED:
        raise _not_completed(event, request_id)


def _not_completed(event: RequestEvent, request_id: str) -> NotCompleted:
    return NotCompleted(
        request_id,
        status=event.type.rpartition(".")[2],
        step=event.step,
        code="" if event.error is None else event.error.code,
        detail="" if event.error is None else event.error.message,
    )
