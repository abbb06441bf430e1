from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from agent_service.api.openapi_gaps import find_gaps
from agent_service.api.submission_schema import SUBMISSION_EXAMPLE, SUBMISSION_SCHEMA
from agent_service.domain.callback import CallbackRules
from agent_service.domain.errors import InvalidSubmission
from agent_service.domain.submission import parse_submission
from tests.support.api import SERVICES, SUBMISSION, calling, make_app, memory_store


async def fetch_document() -> dict[str, Any]:
    async with calling(make_app(memory_store())) as api:
        document: dict[str, Any] = (await api.get("/openapi.json")).json()
        return document


async def test_the_document_is_valid_and_names_every_operation() -> None:
    document = await fetch_document()
    validate(document)
    operations = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    of_requests = {"submit_request", "get_request", "cancel_request", "retry_request", "stream_events"}
    of_the_fleet = {"fleet_health", "fleet_statistics", "metrics"}
    others = {"list_requests", "submit_requests", "healthz", "readyz"}
    assert set(operations) == of_requests | of_the_fleet | others
    assert find_gaps(document) == []
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for name in ("submit_request", "submit_requests"):
        headers = {parameter["name"] for parameter in operations[name]["parameters"]}
        assert {"Idempotency-Key", "X-User-Id", "X-Correlation-Id", "traceparent"} <= headers


async def test_answers_are_as_the_document_says() -> None:
    document = await fetch_document()

    def check(name: str, body: object) -> None:
        schema = {**document, "$ref": f"#/components/schemas/{name}"}
        Draft202012Validator(schema).validate(body)

    async with calling(make_app(memory_store())) as api:
        taken = await api.post("/v1/requests", json=SUBMISSION)
        check("RequestAnswer", taken.json())
        refused = await api.post("/v1/requests", json={"steps": []})
        check("ProblemBody", refused.json())
        missing = await api.get("/v1/requests/none")
        check("ProblemBody", missing.json())
        mixed = {"requests": [SUBMISSION, {"steps": []}]}
        check("Batch", {"requests": [SUBMISSION]})
        check("BatchAnswer", (await api.post("/v1/requests:batch", json=mixed)).json())


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        (SUBMISSION_EXAMPLE, True),
        (SUBMISSION, True),
        ({"service": "analysis", "input": None}, True),
        ({"service": "analysis"}, False),
        ({"steps": []}, False),
        ({"steps": [{"name": "A", "service": "analysis", "input": 1}]}, False),
        ({"service": "analysis", "input": 1, "priority": 10}, False),
        ({"service": "analysis", "input": 1, "deadline_seconds": 0}, False),
        ({"service": "analysis", "input": 1, "after": []}, False),
        ({"service": "analysis", "input": 1, "callback": {"url": "https://hooks.example.org/"}}, True),
        ({"service": "analysis", "input": 1, "callback": "https://hooks.example.org/"}, False),
        ({"service": "analysis", "input": 1, "callback": {"url": "https://a.b/", "more": 1}}, False),
        ({"service": "analysis", "input": 1, "surprise": 1}, False),
        ([], False),
    ],
)
def test_the_schema_of_a_submission_agrees_with_what_is_taken(body: object, allowed: bool) -> None:
    assert Draft202012Validator(SUBMISSION_SCHEMA).is_valid(body) is allowed
    try:
        callbacks = CallbackRules(allowed_hosts=("hooks.example.org",))
        parse_submission(body, services=SERVICES, max_deadline=timedelta(days=1), callbacks=callbacks)
        taken = True
    except InvalidSubmission:
        taken = False
    assert taken is allowed
