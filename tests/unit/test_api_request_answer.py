import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from pydantic import TypeAdapter

from agent_service.api.request_answer import RequestAnswer, moment, request_answer
from agent_service.domain.context import AttemptOutcome, AttemptRecord, ContextError, ContextStatus
from agent_service.domain.request import RequestStatus, Step
from agent_service.request_reader import RequestView
from tests.support.contexts import NOW, SECOND, a_context, a_request

DRAFT = Step(name="draft", service="generation", input="secret input")
CHECK = Step(name="check", service="analysis", input=1, after=("draft",))


def shown(view: RequestView) -> dict[str, Any]:
    body = request_answer(view).to_json()
    TypeAdapter(RequestAnswer).validate_json(body)
    decoded: dict[str, Any] = json.loads(body)
    return decoded


def test_a_step_without_a_context_is_shown_as_planned() -> None:
    body = shown(RequestView(request=a_request(DRAFT, CHECK), contexts=()))
    assert [step["status"] for step in body["steps"]] == ["pending", "blocked"]
    assert body["status"] == "accepted"
    assert body["steps"][1] == {
        "name": "check",
        "service": "analysis",
        "status": "blocked",
        "attempt": 0,
        "tries": 0,
        "max_attempts": 5,
        "output": None,
        "error": None,
        "usage": None,
        "attempts": [],
        "created_at": moment(NOW),
        "started_at": None,
        "finished_at": None,
    }


def test_steps_stand_in_the_order_of_the_plan_with_what_they_put_out() -> None:
    request = a_request(DRAFT, CHECK, status=RequestStatus.FAILED, finished_at=NOW + 2 * SECOND)
    check = a_context(
        "check",
        request_id=request.id,
        service="analysis",
        status=ContextStatus.FAILED,
        error=ContextError(code="rejected", message="no", retryable=False),
        finished_at=NOW + 2 * SECOND,
    )
    draft = a_context(
        request_id=request.id,
        status=ContextStatus.COMPLETED,
        attempt=2,
        output={"text": "ü\u2028", "big": 2**63 - 1},
        usage={"tokens": 3},
        started_at=NOW + SECOND,
    )
    body = shown(RequestView(request=request, contexts=(check, draft)))
    first, second = body["steps"]
    assert (first["name"], first["status"], first["attempt"]) == ("draft", "completed", 2)
    assert (first["output"], first["usage"]) == ({"text": "ü\u2028", "big": 2**63 - 1}, {"tokens": 3})
    assert first["started_at"] == moment(NOW + SECOND)
    assert second["error"] == {"code": "rejected", "message": "no", "retryable": False}
    assert (body["status"], body["finished_at"]) == ("failed", moment(NOW + 2 * SECOND))
    assert "secret input" not in json.dumps(body)


def test_the_attempts_that_have_ended_are_shown_with_their_times_and_errors() -> None:
    error = ContextError(code="timeout", message="too slow", retryable=True)
    record = AttemptRecord(
        attempt=1,
        token="secret token",
        worker="w",
        started_at=NOW,
        ended_at=NOW + SECOND,
        outcome=AttemptOutcome.RETRYING,
        chunks=3,
        error=error,
        run_at=NOW + 2 * SECOND,
    )
    last = replace(record, attempt=2, outcome=AttemptOutcome.FAILED, run_at=None)
    request = a_request(DRAFT, retry_of="r0")
    context = a_context(
        request_id=request.id, status=ContextStatus.FAILED, attempt=2, tries=1, history=(record, last)
    )
    body = shown(RequestView(request=request, contexts=(context,)))
    assert body["retry_of"] == "r0"
    (step,) = body["steps"]
    assert (step["attempt"], step["tries"], step["max_attempts"]) == (2, 1, 5)
    first = {
        "attempt": 1,
        "started_at": moment(NOW),
        "ended_at": moment(NOW + SECOND),
        "outcome": "retrying",
        "error": {"code": "timeout", "message": "too slow", "retryable": True},
        "run_at": moment(NOW + 2 * SECOND),
    }
    assert step["attempts"] == [first, first | {"attempt": 2, "outcome": "failed", "run_at": None}]
    assert "secret token" not in json.dumps(body)


def test_a_request_runs_as_soon_as_a_step_has_begun() -> None:
    request = a_request(DRAFT)
    running = a_context(request_id=request.id, status=ContextStatus.RUNNING, attempt=1)
    assert shown(RequestView(request=request, contexts=(running,)))["status"] == "running"


def test_moments_are_in_utc_to_the_millisecond() -> None:
    there = datetime(2026, 1, 31, 13, 0, 0, 5999, tzinfo=timezone(timedelta(hours=1)))
    assert moment(there) == "2026-01-31T12:00:00.005Z"
    assert moment(datetime(2026, 1, 31, tzinfo=UTC)) == "2026-01-31T00:00:00.000Z"
