import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import validate

from agent_service.local.analysis_service import TASKS, create_analysis_app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_analysis_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://analysis") as running:
        yield running


def call(content: object) -> dict[str, Any]:
    return {
        "context_id": "r1.check",
        "request_id": "r1",
        "step": "check",
        "attempt": 1,
        "input": content,
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("content", "usage"),
    [
        ({"task": "text_statistics", "text": "One two."}, {"characters": 8}),
        ({"task": "record_statistics", "records": [{"a": 1}]}, {"records": 1}),
        ({"task": "sentiment", "text": "Good!"}, {"characters": 5}),
    ],
)
async def test_every_task_answers_with_its_own_output(
    client: httpx2.AsyncClient, content: dict[str, object], usage: dict[str, int]
) -> None:
    response = await client.post("/execute", json=call(content))
    assert response.status_code == 200
    assert response.json()["output"]["task"] == content["task"]
    assert response.json()["usage"] == usage


@pytest.mark.parametrize(
    ("content", "pointer", "part"),
    [
        ({"task": "poetry", "text": "x"}, "/input/task", "text_statistics, record_statistics, sentiment"),
        ({"text": "x"}, "/input/task", "text_statistics, record_statistics, sentiment"),
        ({"task": "sentiment"}, "/input/text", "required"),
        ({"task": "sentiment", "text": 5}, "/input/text", "string"),
        ({"task": "sentiment", "text": "a", "txet": "b"}, "/input/txet", "not permitted"),
        ({"task": "record_statistics", "records": [{"a": 1}, 2]}, "/input/records/1", "dictionary"),
        ({"task": "record_statistics", "records": [{"a/b": 2**64}]}, "/input/records/0/a~1b", "64 bits"),
        ({"task": "sentiment", "text": "\ud800"}, "/input/text", "surrogates"),
        ("sentiment", "/input", "dictionary"),
    ],
)
async def test_a_wrong_input_is_a_problem_that_points_at_the_field(
    client: httpx2.AsyncClient, content: object, pointer: str, part: str
) -> None:
    response = await client.post(
        "/execute", content=json.dumps(call(content)), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "invalid_input"
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert part in problem["errors"][0]["detail"]
    assert pointer in problem["detail"]


@pytest.mark.parametrize("body", ["{", '{"input": NaN', '{"a": "\\ud800"}', "[]", "null", "[" * 100_000])
async def test_a_body_that_is_no_call_is_a_problem(client: httpx2.AsyncClient, body: str) -> None:
    response = await client.post("/execute", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_contract_is_valid_openapi_and_names_every_task(client: httpx2.AsyncClient) -> None:
    contract = (await client.get("/openapi.json")).json()
    validate(contract)
    assert contract["openapi"].startswith("3.1")
    schemas = contract["components"]["schemas"]
    assert set(schemas["AnalysisCall"]["properties"]["input"]["discriminator"]["mapping"]) == set(TASKS)
    assert set(schemas["AnalysisAnswer"]["properties"]["output"]["discriminator"]["mapping"]) == set(TASKS)
    assert list(contract["paths"]["/execute"]["post"]["responses"]["422"]["content"]) == [
        "application/problem+json"
    ]


async def test_health_says_that_calls_are_taken(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
