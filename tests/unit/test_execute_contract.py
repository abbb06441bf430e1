from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Literal

import httpx2
from fastapi import FastAPI
from pydantic import Field

from agent_service.local.execute_contract import (
    ExecuteEnvelope,
    ExecuteProblem,
    StrictInput,
    install_problems,
)


class First(StrictInput):
    kind: Literal["first"]
    first: int


class Second(StrictInput):
    kind: Literal["second"]


class Call(ExecuteEnvelope):
    input: Annotated[First | Second, Field(discriminator="kind")]


async def post(content: object) -> httpx2.Response:
    app = FastAPI()
    install_problems(app, discriminator="kind", known=["first", "second"])

    @app.post("/execute")
    async def execute(call: Call) -> None:
        raise ExecuteProblem(
            HTTPStatus.SERVICE_UNAVAILABLE, "tired", "so \ud800", retry_after=timedelta(seconds=7.4)
        )

    envelope = {"context_id": "c", "request_id": "r", "step": "s", "attempt": 1}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
        return await client.post("/execute", json=envelope | {"input": content})


async def test_a_problem_carries_its_code_and_when_to_come_back() -> None:
    response = await post({"kind": "second"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert response.json() == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "code": "tired",
        "detail": "so ?",
        "errors": [],
    }


async def test_a_field_named_like_its_input_keeps_its_place_in_the_pointer() -> None:
    errors = (await post({"kind": "first", "first": "x"})).json()["errors"]
    assert [error["pointer"] for error in errors] == ["/input/first"]


async def test_several_wrong_fields_are_reported_together() -> None:
    errors = (await post({"kind": "first", "a": 1, "b": 2})).json()["errors"]
    assert [error["pointer"] for error in errors] == ["/input/first", "/input/a", "/input/b"]
