"""ListAnswer: a page of requests as a client is shown it."""

from dataclasses import dataclass

import orjson

from agent_service.api.request_answer import AnyObject, Moment, moment, moment_or_none, request_links
from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import RequestStatus
from agent_service.request_reader import RequestPage, RequestSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """A step as it was planned."""

    name: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryAnswer:
    """A request in a list; its `links` lead to all of it, and to its events."""

    id: str
    status: RequestStatus
    steps: tuple[StepSummary, ...]
    metadata: AnyObject
    priority: int
    user_id: str | None
    correlation_id: str | None
    retry_of: str | None
    cancel_requested: bool
    created_at: Moment
    deadline_at: Moment
    finished_at: Moment | None
    links: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAnswer:
    """
    Requests, newest first; `next` is the cursor of the page behind them, null at the end.

    A page can be short, and even empty, although others follow: `next` alone says whether that is so.
    """

    requests: tuple[SummaryAnswer, ...]
    next: str | None

    def to_json(self) -> bytes:
        """The body of an answer."""
        return orjson.dumps(self)


def list_answer(page: RequestPage) -> ListAnswer:
    """A page as it is shown."""
    return ListAnswer(requests=tuple(_summary(each) for each in page.requests), next=page.next)


def _summary(summary: RequestSummary) -> SummaryAnswer:
    request = summary.request
    return SummaryAnswer(
        id=request.id,
        status=summary.status,
        steps=tuple(StepSummary(name=step.name, service=step.service) for step in request.submission.steps),
        metadata=request.submission.metadata,
        priority=request.submission.priority,
        user_id=request.caller.user_id,
        correlation_id=request.caller.correlation_id,
        retry_of=request.retry_of,
        cancel_requested=request.cancel_requested,
        created_at=moment(request.created_at),
        deadline_at=moment(request.deadline_at),
        finished_at=moment_or_none(request.finished_at),
        links=request_links(request.id),
    )


_EXAMPLE_ID = "01a207b2-1b20-74fc-a018-1d2d0466a6dc"
# Without nulls, which FastAPI leaves out of examples.
LIST_EXAMPLE: JsonObject = {
    "requests": [
        {
            "id": _EXAMPLE_ID,
            "status": "completed",
            "steps": [{"name": "analysis", "service": "analysis"}],
            "metadata": {"order": "4711"},
            "priority": 0,
            "user_id": "ann",
            "correlation_id": "cart-12",
            "retry_of": "01a207a0-77c1-7b0e-8f52-6a3c19d4e871",
            "cancel_requested": False,
            "created_at": "2026-01-31T12:00:00.000Z",
            "deadline_at": "2026-02-01T12:00:00.000Z",
            "finished_at": "2026-01-31T12:00:01.250Z",
            "links": {
                "self": f"/v1/requests/{_EXAMPLE_ID}",
                "events": f"/v1/requests/{_EXAMPLE_ID}/events",
            },
        }
    ],
    "next": "zVqLQ0ySxzcwMWEyMDdiMi0xYjIwLTc0ZmMtYTAxOC0xZDJkMDQ2NmE2ZGM",
}
