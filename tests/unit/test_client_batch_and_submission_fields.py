"""Batches: what became of each submission."""

import json
from datetime import timedelta

import pytest
from starlette.responses import JSONResponse, Response

from agent_service.client import StepFields, SubmissionFields
from agent_service.client.agent_client import LARGEST_BATCH
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable, InvalidSubmission
from agent_service.domain.json_value import JsonObject
from agent_service.domain.submission import parse_submission
from tests.support.scripted_api import IMPATIENT, Script, answering

pytestmark = pytest.mark.usefixtures("no_pause")

ONE: JsonObject = {"service": "analysis", "input": 1}


def results(*results: dict[str, object]) -> Response:
    return JSONResponse({"results": results}, 202)


def problem(status: int, **more: object) -> dict[str, object]:
    return {"problem": {"status": status, "code": "c", "detail": "d", **more}}


async def test_each_submission_has_its_id_or_its_error() -> None:
    wrong = problem(422, errors=[{"pointer": "/service", "detail": "unknown"}])
    api = Script(results({"id": "r1"}, wrong))
    async with answering(api) as client:
        first, second = await client.submit_many([ONE, {"service": "x", "input": 1}], idempotency_key="k")
    assert (first.id, first.error) == ("r1", None)
    assert isinstance(second.error, InvalidSubmission)
    assert second.error.problems[0].pointer == "/service"
    assert api.headers("Idempotency-Key") == ["k"]
    assert json.loads(await api.asked[0].body())["requests"][0] == ONE


async def test_a_batch_that_was_taken_in_part_is_sent_again_with_its_key() -> None:
    api = Script(
        JSONResponse({"code": "store_unavailable"}, 503),
        results({"id": "r1"}, problem(503)),
        results({"id": "r1"}, {"id": "r2"}),
    )
    async with answering(api) as client:
        items = await client.submit_many([ONE, ONE])
    assert [item.id for item in items] == ["r1", "r2"]
    assert len(set(api.headers("Idempotency-Key"))) == 1


async def test_who_has_no_patience_is_told_what_was_taken() -> None:
    async with answering(Script(results({"id": "r1"}, problem(503))), **IMPATIENT) as client:
        first, second = await client.submit_many([ONE, ONE])
    assert first.id == "r1"
    assert isinstance(second.error, BaseServiceUnavailable)


async def test_what_cannot_be_sent_is_refused_and_nothing_is_no_call() -> None:
    api = Script(results())
    async with answering(api) as client:
        assert await client.submit_many([]) == ()
        with pytest.raises(InvalidSubmission, match="1000 submissions at most, not 1001"):
            await client.submit_many([ONE] * (LARGEST_BATCH + 1))
        with pytest.raises(InvalidSubmission, match="/requests/1/input"):
            await client.submit_many([ONE, {"service": "analysis", "input": float("inf")}])
        assert api.asked == []
        with pytest.raises(BaseServiceRejected, match="0 results"):
            await client.submit_many([ONE])


def test_the_fields_are_those_that_the_service_takes() -> None:
    step: StepFields = {"name": "a", "service": "analysis", "input": 1, "after": [], "queue": "default"}
    several: SubmissionFields = {
        "steps": [step],
        "variables": {},
        "metadata": {},
        "priority": 0,
        "deadline_seconds": 60,
    }
    single: SubmissionFields = {"service": "analysis", "input": 1, "queue": "default"}
    assert {*several, *single} == set(SubmissionFields.__annotations__)
    assert set(step) == set(StepFields.__annotations__)
    for body in (several, single):
        parse_submission(body, services={"analysis"}, max_deadline=timedelta(days=1))
