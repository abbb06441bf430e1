"""The OpenAPI document tells receivers what they get."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agent_service.api.callback_schema import CALLBACK_SCHEMA
from tests.support.api import calling, make_app, memory_store

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "callbacks.md"
GOOD = {"request_id": "r", "status": "failed", "organization_id": "acme"}


async def test_the_document_names_the_webhook_and_its_schema() -> None:
    async with calling(make_app(memory_store())) as api:
        document = (await api.get("/openapi.json")).json()
    body = document["webhooks"]["request_ended"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Callback"}
    assert document["components"]["schemas"]["Callback"] == CALLBACK_SCHEMA


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
