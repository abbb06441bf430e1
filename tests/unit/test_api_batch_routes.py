import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from agent_service.api.batch_problems import MOST_ERROR_BYTES
from agent_service.domain.errors import NotDurableYet, StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.request import Request
from agent_service.request_writer import RequestWriter
from agent_service.store import Store
from agent_service.store.insertion import Encoded
from agent_service.unwritten_request import UnwrittenRequest
from tests.support.api import MAX_BODY_BYTES, SUBMISSION, assert_problem, calling, make_app
from tests.support.submissions import planned

ONE = {"service": "analysis", "input": 1}
BATCH = "/v1/requests:batch"
JSON = {"Content-Type": "application/json"}


async def send(
    api: httpx2.AsyncClient,
    *submissions: object,
    status: int = 202,
    headers: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The results of a batch that is answered with this status."""
    answer = await api.post(BATCH, json={"requests": submissions}, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def test_each_submission_is_taken_and_named_in_order(api: httpx2.AsyncClient, store: Store) -> None:
    submissions = [{**ONE, "metadata": {"number": number}} for number in range(30)]
    results = await send(api, *submissions, headers={"X-User-Id": "ann"})
    await planned(store)
    for number, result in enumerate(results):
        assert tuple(result) == ("id",)
        request = await store.requests.get(result["id"])
        assert request is not None
        assert (request.submission.metadata, request.caller.user_id) == ({"number": number}, "ann")
        assert request.planned
        assert len(await store.contexts.of_request(request.id)) == 1


async def test_what_is_wrong_is_refused_by_itself_as_the_single_route_would(api: httpx2.AsyncClient) -> None:
    wrong: list[Any] = [
        {"service": "analisys", "input": 1},
        7,
        {"service": "analysis", "input": {"a": [2**70]}},
        {"steps": [{**SUBMISSION["steps"][0], "after": ["nobody"]}]},
    ]
    results = await send(api, ONE, *wrong, ONE)
    assert ["id" in result for result in results] == [True, *[False] * len(wrong), True]
    for submission, result in zip(wrong, results[1:-1], strict=True):
        single = assert_problem(await api.post("/v1/requests", json=submission), 422, "invalid_submission")
        problem = result["problem"]
        assert [error["pointer"] for error in problem.pop("errors")] == [
            error["pointer"] for error in single.pop("errors")
        ]
        of_this_call = {"instance": BATCH, "request_id": problem["request_id"]}
        assert problem == single | of_this_call


async def test_what_is_wrong_with_many_submissions_is_told_in_a_bounded_answer(
    api: httpx2.AsyncClient,
) -> None:
    submission = {"service": "analysis", "input": {"\u00e9" * 150: [math.nan] * 60}}
    wrong, body = (
        json.dumps(each, ensure_ascii=False, separators=(",", ":"))
        for each in (submission, {"requests": [submission] * 100})
    )
    alone = await api.post("/v1/requests", content=wrong.encode(), headers=JSON)
    errors = assert_problem(alone, 422, "invalid_submission")["errors"]
    answer = await api.post(BATCH, content=body.encode(), headers=JSON)
    assert len(alone.content) * 100 > 4 * MOST_ERROR_BYTES
    assert len(answer.content) < 1.1 * MOST_ERROR_BYTES
    for result in answer.json()["results"]:
        told = result["problem"]["errors"]
        assert told == errors[: len(told)]
        assert result["problem"]["errors_left_out"] == len(errors) - len(told) > 0


async def test_a_name_that_an_object_has_twice_concerns_its_submission_only(api: httpx2.AsyncClient) -> None:
    twice = '{"service": "analysis", "input": {"a/b": {"x": 1, "x": 2}}, "input": {"b": [{"c": 1, "c": 2}]}}'
    body = f'{{"requests": [{json.dumps(ONE)}, {twice}, {json.dumps(ONE)}]}}'
    answer = await api.post(BATCH, content=body, headers=JSON)
    first, second, third = answer.json()["results"]
    assert answer.status_code == 202
    assert "id" in first
    assert "id" in third
    places = {error["pointer"] for error in second["problem"]["errors"]}
    assert places == {"/input", "/input/b/0/c"}


async def test_a_batch_of_which_nothing_is_taken_is_answered_with_200(api: httpx2.AsyncClient) -> None:
    result, other = await send(api, {"steps": []}, 7, status=200)
    assert result["problem"]["code"] == other["problem"]["code"] == "invalid_submission"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("[]", ""),
        ("{}", "/requests"),
        ('{"requests": []}', "/requests"),
        ('{"requests": {"0": 1}}', "/requests"),
        (json.dumps({"requests": [1] * 1_001}), "/requests"),
        ('{"requests": [1], "more": 1}', "/more"),
        ('{"requests": [1], "requests": [1]}', "/requests"),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(
    api: httpx2.AsyncClient, body: str, pointer: str
) -> None:
    refused = await api.post(BATCH, content=body, headers=JSON)
    problem = assert_problem(refused, 422, "invalid_submission")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_the_body_of_a_batch_is_bounded_like_any_other(api: httpx2.AsyncClient) -> None:
    refused = await api.post(BATCH, content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
    assert_problem(refused, 413, "body_too_large")
    assert_problem(await api.post(BATCH, content=b"{}"), 415, "unsupported_media_type")
    assert_problem(await api.post(BATCH, content=b"{", headers=JSON), 400, "invalid_json")


async def test_a_batch_that_is_sent_again_with_its_key_takes_nothing_twice(
    api: httpx2.AsyncClient, store: Store
) -> None:
    await store.prepare()
    submissions = [{**ONE, "priority": number} for number in range(3)]
    headers = {"Idempotency-Key": '"k"'}
    first = await api.post(BATCH, json={"requests": submissions}, headers=headers)
    assert "idempotency-replayed" not in first.headers
    again = await api.post(BATCH, json={"requests": submissions}, headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.json() == first.json()

    changed = await api.post(
        BATCH, json={"requests": [submissions[0], ONE, submissions[2], ONE]}, headers=headers
    )
    assert "idempotency-replayed" not in changed.headers
    results = changed.json()["results"]
    assert [results[0], results[2]] == [first.json()["results"][0], first.json()["results"][2]]
    assert results[1]["problem"]["code"] == "idempotency_key_reused"
    assert "id" in results[3]


async def test_the_key_of_a_batch_and_one_that_looks_like_that_of_its_submission_do_not_collide(
    api: httpx2.AsyncClient, store: Store
) -> None:
    await store.prepare()
    results = await send(api, ONE, SUBMISSION, headers={"Idempotency-Key": "k"})
    alone = await api.post("/v1/requests", json=ONE, headers={"Idempotency-Key": "k/1"})
    assert alone.status_code == 202
    assert "idempotency-replayed" not in alone.headers
    assert alone.json()["id"] not in [result["id"] for result in results]
    again = await api.post("/v1/requests", json=ONE, headers={"Idempotency-Key": "k/1"})
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == alone.json()["id"]


@pytest.mark.parametrize("key", ["a b", "k" * 252])
async def test_a_key_that_cannot_be_the_beginning_of_others_is_refused(
    api: httpx2.AsyncClient, key: str
) -> None:
    refused = await api.post(BATCH, json={"requests": [ONE]}, headers={"Idempotency-Key": key})
    assert_problem(refused, 400, "invalid_idempotency_key")
    await send(api, ONE, headers={"Idempotency-Key": key.replace(" ", "")[:251]})


AWAY, UNKNOWN, SOON = (
    StoreUnavailable("db-7.internal:27017 refused"),
    WriteOutcomeUnknown("db-7.internal:27017 timed out"),
    NotDurableYet("ask again"),
)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([AWAY, AWAY, AWAY], "store_unavailable"),
        ([AWAY, UNKNOWN, SOON], "outcome_unknown"),
        ([SOON, AWAY, SOON], "store_unavailable"),
        ([SOON, SOON, SOON], "not_durable_yet"),
    ],
)
async def test_where_nothing_was_acknowledged_because_of_mongodb_the_whole_answer_is_a_503(
    store: Store, monkeypatch: pytest.MonkeyPatch, errors: list[Exception], code: str
) -> None:
    fail_by_priority(monkeypatch, errors)
    async with calling(make_app(store)) as api:
        batch = {"requests": [*({**ONE, "priority": number} for number in range(3)), 7]}
        refused = await api.post(BATCH, json=batch)
    assert "internal" not in assert_problem(refused, 503, code)["detail"]
    assert int(refused.headers["retry-after"]) >= 1


async def test_where_something_was_taken_each_trouble_is_told_in_its_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_by_priority(monkeypatch, [AWAY, None, UNKNOWN])
    async with calling(make_app(store)) as api:
        results = await send(api, *({**ONE, "priority": number} for number in range(3)))
    assert [tuple(result) for result in results] == [("problem",), ("id",), ("problem",)]
    codes = [results[index]["problem"]["code"] for index in (0, 2)]
    assert codes == ["store_unavailable", "outcome_unknown"]
    assert results[0]["problem"]["status"] == 503


def fail_by_priority(monkeypatch: pytest.MonkeyPatch, errors: Sequence[Exception | None]) -> None:
    """The request of each priority is not stored for another reason; where there is none, it is."""
    put = RequestWriter.put

    def fail(writer: RequestWriter, request: Request, document: Encoded) -> UnwrittenRequest:
        error = errors[request.submission.priority]
        if error is None:
            return put(writer, request, document)
        failed = UnwrittenRequest(request, document, time.monotonic() + 60)
        failed.fail(error)
        return failed

    monkeypatch.setattr(RequestWriter, "put", fail)


async def test_mongodb_that_is_silent_is_a_503_in_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()
    prepare = store.prepare_within

    async def late(limit: timedelta) -> None:
        await go_on.wait()
        await prepare(limit)

    monkeypatch.setattr(store, "prepare_within", late)
    async with calling(make_app(store, answer_within=timedelta(milliseconds=100))) as api:
        refused = await api.post(BATCH, json={"requests": [ONE]}, headers={"Idempotency-Key": "k"})
    assert_problem(refused, 503, "outcome_unknown")
    go_on.set()
    await planned(store)
    stored = await store.requests.by_idempotency_key("default", "k/0")
    assert stored is not None
    assert stored.planned
