"""What calls and answers look like: the examples of the OpenAPI document, one for each shared schema."""

import json
from http import HTTPStatus

from agent_service.domain.json_value import JsonObject

_REQUEST_ID = "0199c2f4-6f3a-7c41-9d6e-2b1f0a8c5e77"
_CALL_ID = "5f0c1d2e3a4b49c8a7d6e5f4c3b2a190"

_REQUEST: JsonObject = {
    "id": _REQUEST_ID,
    "status": "running",
    "steps": [
        {
            "name": "draft",
            "service": "generation",
            "status": "completed",
            "attempt": 1,
            "tries": 1,
            "max_attempts": 5,
            "output": {"text": "The sea breathes twice a day.", "model": "small", "finish_reason": "stop"},
            "error": None,
            "usage": {"input_tokens": 21, "output_tokens": 8},
            "attempts": [
                {
                    "attempt": 1,
                    "started_at": "2026-01-31T12:00:00.012Z",
                    "ended_at": "2026-01-31T12:00:01.480Z",
                    "outcome": "completed",
                    "error": None,
                    "run_at": None,
                }
            ],
            "created_at": "2026-01-31T12:00:00.000Z",
            "started_at": "2026-01-31T12:00:00.012Z",
            "finished_at": "2026-01-31T12:00:01.480Z",
        },
        {
            "name": "check",
            "service": "analysis",
            "status": "pending",
            "attempt": 0,
            "tries": 0,
            "max_attempts": 5,
            "output": None,
            "error": None,
            "usage": None,
            "attempts": [],
            "created_at": "2026-01-31T12:00:00.000Z",
            "started_at": None,
            "finished_at": None,
        },
    ],
    "metadata": {"team": "press"},
    "priority": 0,
    "retry_of": None,
    "created_at": "2026-01-31T12:00:00.000Z",
    "deadline_at": "2026-01-31T12:10:00.000Z",
    "finished_at": None,
    "links": {"self": f"/v1/requests/{_REQUEST_ID}", "events": f"/v1/requests/{_REQUEST_ID}/events"},
}

_EVENT: JsonObject = {
    "type": "output.delta",
    "request_id": _REQUEST_ID,
    "at": "2026-01-31T12:00:00.512Z",
    "step": "draft",
    "attempt": 1,
    "seq": 1,
    "delta": "The sea ",
}


def problem_example(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: list[JsonObject] | None = None,
) -> JsonObject:
    """A problem as a caller is sent it."""
    problem: JsonObject = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "/v1/requests",
        "code": code,
        "request_id": _CALL_ID,
    }
    return problem if errors is None else {**problem, "errors": errors}


#: The problems that a client meets first, by their code. Titles are written out: Python renames its own.
PROBLEM_EXAMPLES: dict[str, JsonObject] = {
    "invalid_json": problem_example(
        400,
        "invalid_json",
        "Bad Request",
        "the body is not JSON: Expecting value at line 1 column 1 (character 0)",
    ),
    "request_not_found": problem_example(
        404, "request_not_found", "Not Found", "there is no request with this id"
    ),
    "invalid_submission": problem_example(
        422,
        "invalid_submission",
        "Unprocessable Entity",
        "the submission can never run as it is; each of `errors` names a place in it",
        errors=[{"pointer": "/steps/1/after/0", "detail": "there is no step with this name"}],
    ),
    "store_unavailable": problem_example(
        503, "store_unavailable", "Service Unavailable", "MongoDB does not answer; try again"
    ),
}

#: By the name of a shared schema.
SCHEMA_EXAMPLES: dict[str, JsonObject] = {
    "RequestAnswer": _REQUEST,
    "EventBody": _EVENT,
    "EventPageAnswer": {
        "events": [{"id": "@0,draft:1.1", **_EVENT}],
        "next": "@0,draft:1.1",
        "ended": False,
    },
    "StreamedEvent": {"id": "@0,draft:1.1", "event": "output.delta", "data": json.dumps(_EVENT)},
    "ProblemBody": PROBLEM_EXAMPLES["request_not_found"],
    "BatchAnswer": {"results": [{"id": _REQUEST_ID}, {"problem": PROBLEM_EXAMPLES["invalid_submission"]}]},
}


def example_of_status(status: HTTPStatus, code: str, detail: str) -> JsonObject:
    """A problem of one status, for an answer that has that status alone."""
    return problem_example(status, code, status.phrase, detail)
