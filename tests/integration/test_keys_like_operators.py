"""Names that mean something to MongoDB or to JavaScript are text like any other, and never obeyed."""

from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.errors import InvalidSubmission
from agent_service.domain.request import Caller, RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.api import SUBMISSION, calling, make_app
from tests.support.stored_chunks import all_chunks
from tests.support.worker_tools import HandlerWorker, by_step, ended, running, step, submit

#: Each name on its own, holding one that is nested, so that no level is special.
NAMES = [
    "$where",
    "$set",
    "$ne",
    "$$NOW",
    "$",
    "a.b",
    ".",
    "$a.$b",
    "",
    " ",
    "_id",
    "__proto__",
    "constructor",
    "{{ vars.x }}",
    "$\u00e9\U0001f600",
]
VALUE: dict[str, Any] = {
    name: {name: [{name: "sleep(1000) || true"}, "$input", "$$ROOT"]} for name in NAMES
} | {"$expr": {"$function": {"body": "function() { return true }", "args": [], "lang": "js"}}}
#: Text that is an operator where somebody takes it for one.
TEXTS = ["$where", "a.b", '{"$ne":null}', "$$ROOT", "__proto__", "[$regex]=.*"]


async def test_such_names_go_through_a_request_as_they_are(store: Store) -> None:
    calls: dict[str, BaseServiceCall] = {}
    deltas = ["$set", "a.b", "\x00", '{"$ne": 1}']

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        calls[call.step] = call
        for delta in deltas:
            await on_delta(delta)
        return BaseServiceAnswer(output=call.input, usage=VALUE)

    steps = (
        step("draft", value=VALUE),
        step("copy", value={"$set": "{{ steps.draft.output }}", "a.b": "{{ vars.v }}"}, after=("draft",)),
        step("inline", value="{{ vars.v }} {{ steps.draft.output.__proto__.__proto__.1 }}", after=("draft",)),
    )
    async with running(HandlerWorker(store, generate)):
        request_id = await submit(store, *steps, variables={"v": VALUE, **VALUE}, metadata=VALUE)
        view = await ended(store, request_id)
    assert view.status is RequestStatus.COMPLETED
    assert (calls["draft"].input, calls["draft"].metadata) == (VALUE, VALUE)
    assert calls["copy"].input == {"$set": VALUE, "a.b": VALUE}
    assert str(calls["inline"].input).endswith(" $input")
    contexts = by_step(view)
    assert (contexts["draft"].input, contexts["draft"].output, contexts["draft"].usage) == (VALUE,) * 3
    assert contexts["copy"].output == {"$set": VALUE, "a.b": VALUE}
    submission = view.request.submission
    assert (submission.metadata, submission.variables) == (VALUE, {"v": VALUE, **VALUE})
    chunks = await all_chunks(store, f"{request_id}.draft", 1)
    assert "".join(chunk.delta for chunk in chunks) == "".join(deltas)


@pytest.mark.parametrize("text", TEXTS)
async def test_such_text_in_a_header_names_itself_and_nothing_else(store: Store, text: str) -> None:
    headers = {"Idempotency-Key": text, "X-User-Id": text, "X-Correlation-Id": text, "X-Request-Id": text}
    body = {**SUBMISSION, "metadata": VALUE}
    async with calling(make_app(store)) as client:
        other = await client.post("/v1/requests", json=body, headers={"Idempotency-Key": "other"})
        first = await client.post("/v1/requests", json=body, headers=headers)
        again = await client.post("/v1/requests", json=body, headers=headers)
        batch = await client.post("/v1/requests:batch", json={"requests": [body]}, headers=headers)
        shown = (await client.get(first.headers["location"])).json()
    assert (first.status_code, first.headers["x-request-id"]) == (202, text)
    assert other.json()["id"] != first.json()["id"] == again.json()["id"]
    assert batch.json()["results"][0]["id"] != first.json()["id"]
    assert shown["metadata"] == VALUE
    request = await store.requests.by_idempotency_key("default", text)
    assert request is not None
    assert request.id == first.json()["id"]
    assert request.caller == Caller(user_id=text, correlation_id=text)


@pytest.mark.parametrize("text", [*TEXTS, "{$gt: ''}"])
async def test_such_text_in_an_address_finds_nothing(store: Store, text: str) -> None:
    async with calling(make_app(store)) as client:
        await client.post("/v1/requests", json=SUBMISSION)
        address = f"/v1/requests/{text}"
        answers = [await client.get(address), await client.get(f"{address}/events")]
        answers.append(await client.post(f"{address}/cancel"))
    found = [(answer.status_code, answer.json()["code"]) for answer in answers]
    assert found == [(404, "request_not_found")] * 3


@pytest.mark.parametrize("place", ["input", "variables", "metadata"])
async def test_a_name_with_the_character_nul_is_refused_with_its_place(store: Store, place: str) -> None:
    submission: dict[str, Any] = {"service": "generation", "input": 1, place: {"a.b": [{"$x\0": 1}]}}
    requests = RequestService(store, max_attempts={"generation": 1})
    with pytest.raises(InvalidSubmission) as refused:
        await requests.submit(submission)
    (problem,) = refused.value.problems
    assert problem.pointer == f"/{place}/a.b/0"
    assert "NUL" in problem.detail
