"""What the client reads: typed where it knows a field, and never broken by one that it does not expect."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_service.client import RequestEvent, RequestResult, RequestSummary
from agent_service.domain.errors import NotCompleted
from agent_service.domain.json_value import JsonObject

ANSWER: JsonObject = {
    "id": "r1",
    "status": "failed",
    "steps": [
        {
            "name": "draft",
            "service": "generation",
            "status": "completed",
            "attempt": 2,
            "output": {"text": "hi"},
            "error": None,
            "usage": {"total_tokens": 3},
            "attempts": [
                {
                    "attempt": 1,
                    "outcome": "retrying",
                    "started_at": "2026-01-31T12:00:00.000Z",
                    "ended_at": "2026-01-31T12:00:01.000Z",
                    "error": {"code": "http_503", "message": "busy", "retryable": True},
                    "run_at": "2026-01-31T12:00:02.000Z",
                }
            ],
            "started_at": "2026-01-31T12:00:02.000Z",
            "finished_at": "2026-01-31T12:00:03.500Z",
        },
        {"name": "check", "status": "failed", "error": {"code": "rejected", "message": "no"}},
    ],
    "metadata": {"team": "blue"},
    "priority": 3,
    "retry_of": "r0",
    "created_at": "2026-01-31T12:00:00.000Z",
    "deadline_at": "2026-02-01T12:00:00.000Z",
    "finished_at": "2026-01-31T12:00:04.000Z",
}

FIELDS = ["id", "status", "steps", "error", "attempts", "metadata", "name", "attempt", "created_at", "delta"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("2026-01-31T12:00:00"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), JSON)


def test_a_request_is_read_with_its_types() -> None:
    request = RequestResult.read(ANSWER)
    draft, check = request.steps
    assert (request.id, request.status, request.priority, request.retry_of) == ("r1", "failed", 3, "r0")
    assert request.created_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (draft.output, draft.usage, draft.error) == ({"text": "hi"}, {"total_tokens": 3}, None)
    assert draft.duration == timedelta(seconds=1.5)
    assert draft.attempts[0].error is not None
    assert draft.attempts[0].error.retryable
    assert request.step("check") is check
    assert request.ended
    assert not request.completed
    with pytest.raises(NotCompleted, match="r1 ended as failed: step check: rejected: no"):
        request.raise_unless_completed()


def test_a_step_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(LookupError, match="no step 'chekc'; it has draft, check"):
        RequestResult.read(ANSWER).step("chekc")


def test_what_a_later_version_adds_is_kept_and_harms_nothing() -> None:
    raw: JsonObject = {**ANSWER, "status": "paused", "finished_at": None, "mood": "good"}
    request = RequestResult.read(raw)
    assert (request.status, request.ended, request.completed) == ("paused", False, False)
    assert request.raw["mood"] == "good"
    assert "mood" not in repr(request)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(raw=OBJECTS)
def test_no_object_whatever_is_in_it_breaks_the_reader(raw: JsonObject) -> None:
    request = RequestResult.read(raw)
    event = RequestEvent.read(raw, type="later.type", id="@0")
    assert request.raw == event.raw == RequestSummary.read(raw).raw == raw
    assert isinstance(request.status, str)
    assert request.created_at is None or request.created_at.tzinfo is not None
    assert event.ends_request is False
