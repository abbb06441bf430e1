import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import httpx2
import pytest

from agent_service.domain.errors import NotDurableYet, StoreUnavailable, WriteOutcomeUnknown
from agent_service.store import Store
from tests.support.api import MAX_BODY_BYTES, SUBMISSION, assert_problem, calling, make_app

STORED = (
    "id",
    "status",
    "steps",
    "metadata",
    "priority",
    "retry_of",
    "created_at",
    "deadline_at",
    "finished_at",
    "links",
)


async def test_a_submission_is_taken_and_shown_as_it_is_shown_later(api: httpx2.AsyncClient) -> None:
    taken = await api.post("/v1/requests", json=SUBMISSION)
    assert taken.status_code == 202
    assert taken.headers["retry-after"] == "1"
    body = taken.json()
    assert tuple(body) == STORED
    assert taken.headers["location"] == f"/v1/requests/{body['id']}" == body["links"]["self"]
    assert (body["status"], body["metadata"], body["priority"]) == ("accepted", {"team": "a/b"}, 3)
    assert [(step["name"], step["service"], step["status"]) for step in body["steps"]] == [
        ("draft", "generation", "pending"),
        ("check", "analysis", "blocked"),
    ]
    created = datetime.fromisoformat(body["created_at"])
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=10)
    assert datetime.fromisoformat(body["deadline_at"]) == created + timedelta(days=1)

    shown = await api.get(taken.headers["location"])
    assert shown.status_code == 200
    assert shown.headers["retry-after"] == "1"
    assert shown.headers["cache-control"] == "no-store"
    assert shown.json() == body


async def test_the_caller_is_stored_with_the_request(api: httpx2.AsyncClient, store: Store) -> None:
    headers = {
        "X-User-Id": "ann",
        "X-Correlation-Id": "order 7",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    }
    taken = await api.post("/v1/requests", json=SUBMISSION, headers=headers)
    request = await store.requests.get(taken.json()["id"])
    assert request is not None
    assert (request.caller.organization_id, request.caller.user_id) == ("default", "ann")
    assert request.caller.correlation_id == "order 7"
    assert request.caller.traceparent == headers["traceparent"]


async def test_the_same_key_and_body_is_one_request(api: httpx2.AsyncClient, store: Store) -> None:
    await store.prepare()
    first = await api.post("/v1/requests", json=SUBMISSION, headers={"Idempotency-Key": "k-1"})
    again = await api.post("/v1/requests", json=SUBMISSION, headers={"Idempotency-Key": '"k-1"'})
    assert "idempotency-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()

    other = {**SUBMISSION, "priority": 4}
    refused = await api.post("/v1/requests", json=other, headers={"Idempotency-Key": "k-1"})
    assert_problem(refused, 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ('{"steps": [{"name": "a", "service": "generaton", "input": 1}]}', "/steps/0/service", "generation"),
        ('{"service": "analysis", "input": {"a/b": [1, NaN]}}', "/input/a~1b/1", "finite"),
        ('{"service": "analysis", "input": [18446744073709551616]}', "/input/0", "64 bits"),
        (f'{{"service": "analysis", "input": [1{"0" * 5000}]}}', "/input/0", "64 bits"),
        ('{"service": "analysis", "input": {"a\\u0000": 1}}', "/input", "NUL"),
        (f'{{"service": "analysis", "input": {"[" * 101}{"]" * 101}}}', "/input" + "/0" * 100, "100 levels"),
        (f'{{"service": "analysis", "input": {"[" * 20000}{"]" * 20000}}}', "", "100 levels"),
        ('{"service": "analysis", "input": {"a": {"b": 1, "b": 2}}}', "/input/a/b", "twice"),
        ('{"service": "analysis", "input": 1, "priority": 1e400}', "/priority", "integer"),
        ('{"service": "analysis", "input": "\\ud800"}', "/input", "surrogates"),
        ('{"service": "analysis", "input": 1, "\\ud800": 1}', "/\\ud800", "no such field"),
        ("[]", "", "object"),
    ],
)
async def test_what_cannot_run_is_refused_with_its_place(
    api: httpx2.AsyncClient, body: str, pointer: str, says: str
) -> None:
    headers = {"Content-Type": "application/json"}
    problem = assert_problem(
        await api.post("/v1/requests", content=body, headers=headers), 422, "invalid_submission"
    )
    assert any(error["pointer"] == pointer and says in error["detail"] for error in problem["errors"])


async def test_a_key_that_cannot_be_read_is_refused(api: httpx2.AsyncClient) -> None:
    refused = await api.post("/v1/requests", json=SUBMISSION, headers={"Idempotency-Key": "a b"})
    assert_problem(refused, 400, "invalid_idempotency_key")


async def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read(api: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    over = await api.post("/v1/requests", content=b" " * (MAX_BODY_BYTES + 1), headers=headers)
    assert str(MAX_BODY_BYTES) in assert_problem(over, 413, "body_too_large")["detail"]
    full = b'{"service": "analysis", "input": 1}'.ljust(MAX_BODY_BYTES)
    assert (await api.post("/v1/requests", content=full, headers=headers)).status_code == 202


async def test_an_unknown_request_is_a_problem(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.get("/v1/requests/nothing%20here%0A"), 404, "request_not_found")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("db-7.internal:27017 refused"), "store_unavailable"),
        (WriteOutcomeUnknown("db-7.internal:27017 timed out"), "outcome_unknown"),
        (NotDurableYet("ask again"), "not_durable_yet"),
    ],
)
async def test_trouble_with_mongodb_is_a_503_that_names_no_hosts(
    api: httpx2.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store.requests, "insert_many", fail)
    refused = await api.post("/v1/requests", json=SUBMISSION)
    assert "internal" not in assert_problem(refused, 503, code)["detail"]
    assert int(refused.headers["retry-after"]) >= 1


async def test_mongodb_that_is_silent_is_a_503_in_time_and_the_write_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, stored = asyncio.Event(), asyncio.Event()
    insert_many = store.requests.insert_many

    async def slow(*arguments: Any, **options: Any) -> object:
        await go_on.wait()
        result = await insert_many(*arguments, **options)
        stored.set()
        return result

    monkeypatch.setattr(store.requests, "insert_many", slow)
    async with calling(make_app(store, answer_within=timedelta(milliseconds=100))) as api:
        began = monotonic()
        assert_problem(await api.post("/v1/requests", json=SUBMISSION), 503, "outcome_unknown")
        assert monotonic() - began < 5
    go_on.set()
    async with asyncio.timeout(10):
        await stored.wait()
