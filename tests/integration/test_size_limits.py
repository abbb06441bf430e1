"""What is too large ends alone and at once, and leaves nothing half done."""

import asyncio

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import UnstorableValue
from agent_service.domain.json_value import JsonValue
from agent_service.domain.request import Step, Submission
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.sizes import MAX_BYTES
from tests.support.submissions import planned
from tests.support.worker_tools import (
    HandlerWorker,
    Raw,
    by_step,
    ended,
    error_of,
    running,
    step,
    submit,
)

MIB = 2**20


@pytest.mark.parametrize(
    ("input_size", "answer_size"),
    [(5, MAX_BYTES), (8 * MIB, 7 * MIB + MIB // 2), (8 * MIB, 12 * MIB)],
    ids=["answer", "both, and MongoDB would take it", "both, and MongoDB would not"],
)
async def test_an_answer_over_the_limit_fails_once_and_takes_no_neighbour_with_it(
    store: Store, input_size: int, answer_size: int
) -> None:
    together = asyncio.Barrier(2)

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        await together.wait()
        return BaseServiceAnswer(output="x" * answer_size if call.step == "large" else "fine")

    async with running(HandlerWorker(store, generate)):
        request_id = await submit(store, step("large", value="x" * input_size), step("small"))
        found = by_step(await ended(store, request_id))
    large, small = found["large"], found["small"]
    assert (large.status, error_of(large), large.tries) == (ContextStatus.FAILED, "unstorable_output", 1)
    assert large.output is None
    assert large.error is not None
    assert str(MAX_BYTES) in large.error.message
    assert (small.status, small.tries, small.output) == (ContextStatus.COMPLETED, 1, "fine")


# Of the first MongoDB could hold the request and its context, but not with an answer; of the last, neither.
@pytest.mark.parametrize("size", [MAX_BYTES, 16 * MIB - 1_000, 16 * MIB])
async def test_a_submission_over_the_limit_is_refused_and_leaves_nothing(
    store: Store, raw: Raw, size: int
) -> None:
    with pytest.raises(UnstorableValue, match=str(MAX_BYTES)):
        await submit(store, step(value="x" * size))
    assert await raw.requests.count_documents({}) == 0
    assert await raw.contexts.count_documents({}) == 0


async def test_what_is_acknowledged_at_the_limit_gets_its_contexts(store: Store, raw: Raw) -> None:
    room = MAX_BYTES - 2_000
    request_id = await submit(store, step(value="x" * (room // 2)), metadata={"y": "y" * (room // 2)})
    stored = await raw.contexts.find_one({"request_id": request_id}, {"status": 1})
    assert stored is not None
    assert stored["status"] == "pending"


@pytest.mark.parametrize("where", ["input", "metadata"])
async def test_however_deep_it_is_what_is_acknowledged_gets_its_contexts(
    store: Store, raw: Raw, where: str
) -> None:
    """A program may hand over a submission that nobody has checked."""
    requests, taken, refused = RequestService(store), set(), set()
    for depth in (90, *range(165, 185)):
        value: dict[str, JsonValue] = {}
        for _ in range(depth):
            value = {"a": value}
        only = Step(name="draft", service="generation", input=value if where == "input" else None)
        submission = Submission(steps=(only,), metadata=value if where == "metadata" else {})
        try:
            taken.add((await requests.submit(submission)).request.id)
        except UnstorableValue:
            refused.add(depth)
    await planned(store)
    assert taken
    assert refused
    assert set(await raw.contexts.distinct("request_id")) == taken
