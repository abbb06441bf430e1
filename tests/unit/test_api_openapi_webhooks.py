import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from agent_service.api.openapi_webhooks import CALLBACK_SCHEMA, webhooks
from agent_service.domain.events import EventType
from tests.support.api import make_app, memory_store

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "callbacks.md"
GOOD = {"request_id": "r", "status": "failed", "organization_id": "acme"}


def test_there_is_a_webhook_for_each_way_in_which_a_request_ends() -> None:
    document = make_app(memory_store()).openapi()
    validate(document)
    ends = {EventType.REQUEST_COMPLETED, EventType.REQUEST_FAILED, EventType.REQUEST_CANCELLED}
    assert set(document["webhooks"]) == set(ends)


def test_a_webhook_is_sent_with_the_headers_of_standard_webhooks() -> None:
    for webhook in webhooks().values():
        required = [header["name"] for header in webhook["post"]["parameters"] if header["required"]]
        assert required == ["webhook-id", "webhook-timestamp", "webhook-signature"]


def test_what_is_sent_names_the_request_and_how_it_ended() -> None:
    validator = Draft202012Validator(CALLBACK_SCHEMA)
    for name, webhook in webhooks().items():
        example = webhook["post"]["requestBody"]["content"]["application/json"]["example"]
        validator.validate(example)
        assert example["type"] == name == f"request.{example['data']['status']}"
    assert not validator.is_valid({"type": "request.running", "timestamp": "…", "data": {}})


def test_what_the_documentation_shows_fits_the_schema() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    [shown] = re.findall(r'```json\n(\{"type".*?)```', text, flags=re.DOTALL)
    Draft202012Validator(CALLBACK_SCHEMA).validate(json.loads(shown))


@pytest.mark.parametrize(
    ("kind", "data", "fits"),
    [
        ("request.failed", GOOD, True),
        ("request.failed", {**GOOD, "correlation_id": "c"}, True),
        ("request.failed", {**GOOD, "output": "secret"}, False),
        ("request.running", {**GOOD, "status": "running"}, False),
    ],
)
def test_only_ends_and_ids_fit_the_schema(kind: str, data: dict[str, str], fits: bool) -> None:
    body = {"type": kind, "timestamp": "2026-01-02T03:04:05+00:00", "data": data}
    assert Draft202012Validator(CALLBACK_SCHEMA).is_valid(body) is fits
