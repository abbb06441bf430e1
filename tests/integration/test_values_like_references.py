"""JSON that BSON takes for a reference to another document comes back as it was."""

from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.request import RequestStatus
from agent_service.store import Store
from tests.support.worker_tools import HandlerWorker, by_step, ended, running, step, submit

REFERENCE: dict[str, Any] = {"$ref": "a", "$id": 1}
VALUES: list[dict[str, Any]] = [
    REFERENCE,
    {"$ref": "a", "$id": REFERENCE, "$db": "b", "title": "t", "more": [REFERENCE]},
    {"nested": {"deeper": [REFERENCE, {"inside": REFERENCE}]}},
]


@pytest.mark.parametrize("value", VALUES)
async def test_what_looks_like_a_reference_goes_through_a_request_as_it_is(
    store: Store, value: dict[str, Any]
) -> None:
    calls: dict[str, BaseServiceCall] = {}

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        calls[call.step] = call
        return BaseServiceAnswer(output=call.input, usage=value)

    steps = (
        step("draft", value=value),
        step("copy", value={"copied": "{{ steps.draft.output }}", "v": "{{ vars.v }}"}, after=("draft",)),
    )
    async with running(HandlerWorker(store, generate)):
        view = await ended(
            store, await submit(store, *steps, variables={"v": value, **value}, metadata=value)
        )
    assert view.status is RequestStatus.COMPLETED
    assert (calls["draft"].input, calls["draft"].metadata) == (value, value)
    assert calls["copy"].input == {"copied": value, "v": value}
    contexts = by_step(view)
    assert (contexts["draft"].input, contexts["draft"].output, contexts["draft"].usage) == (value,) * 3
    assert contexts["copy"].output == {"copied": value, "v": value}
    submission = view.request.submission
    assert (submission.metadata, submission.variables) == (value, {"v": value, **value})
    assert submission.steps[0].input == value
