"""RequestEvent: one event of a request's stream."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from agent_service.client.json_fields import integer_or_none, moment_or_none, text_of, text_or_none
from agent_service.client.results import ErrorResult
from agent_service.domain.events import EventType
from agent_service.domain.json_value import JsonObject

_ENDS = frozenset({EventType.REQUEST_COMPLETED, EventType.REQUEST_FAILED, EventType.REQUEST_CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """
    One event; `id` is the cursor to go on from, and what an event does not have is None.

    `type` is one of `EventType`, or one that a later version has added; `raw` is all that the event says.
    """

    type: str
    id: str
    request_id: str
    at: datetime | None
    #: The step that it is about; None when it is about the whole request.
    step: str | None
    attempt: int | None
    #: The number of a piece of output within its attempt, from 1.
    seq: int | None
    #: A piece of output.
    delta: str | None
    error: ErrorResult | None
    #: From when on the next attempt is possible.
    run_at: datetime | None
    raw: JsonObject = field(repr=False)

    @classmethod
    def read(cls, raw: JsonObject, *, type: str, id: str) -> Self:  # noqa: A002 - the words of SSE
        """What stands in the data of an event of this type and cursor."""
        return cls(
            type=type,
            id=id,
            request_id=text_of(raw, "request_id"),
            at=moment_or_none(raw, "at"),
            step=text_or_none(raw, "step"),
            attempt=integer_or_none(raw, "attempt"),
            seq=integer_or_none(raw, "seq"),
            delta=text_or_none(raw, "delta"),
            error=ErrorResult.find(raw),
            run_at=moment_or_none(raw, "run_at"),
            raw=raw,
        )

    @property
    def ends_request(self) -> bool:
        """Whether it is the last event of its stream."""
        return self.type in _ENDS
