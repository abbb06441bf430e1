"""Very many values of a few bytes each are refused with their place; their neighbours in a batch are not."""

from datetime import timedelta
from typing import Any

import pytest

from agent_service.api.bounded_calls import BoundedCalls
from tests.support.api import assert_problem, calling, make_app, memory_store

TOO_MUCH: list[tuple[Any, str, str]] = [
    ({str(number): 0 for number in range(10_001)}, "/input/a", "at most 10000 names"),
    ([0] * 100_001, "/input/a", "at most 100000 members"),
    ([[0] * 90_000] * 3, "/input", "at most 250000 values"),
]
SUBMISSION = {"service": "generation", "input": "hello"}


@pytest.mark.parametrize(("value", "pointer", "says"), TOO_MUCH, ids=["names", "members", "values"])
async def test_too_many_values_are_refused_with_their_place(
    monkeypatch: pytest.MonkeyPatch, value: Any, pointer: str, says: str
) -> None:
    # A busy machine may need longer to look at so many than a caller waits.
    monkeypatch.setattr(BoundedCalls.__init__, "__defaults__", (timedelta(minutes=1),))
    submission = {"service": "generation", "input": {"a": value}}
    async with calling(make_app(memory_store(), max_body_bytes=2_000_000)) as client:
        alone = await client.post("/v1/requests", json=submission)
        batch = await client.post("/v1/requests:batch", json={"requests": [submission, SUBMISSION]})
    (error,) = assert_problem(alone, 422, "invalid_submission")["errors"]
    assert (error["pointer"], says in error["detail"]) == (pointer, True)
    refused, taken = batch.json()["results"]
    assert refused["problem"]["errors"] == [error]
    assert "id" in taken
