"""`POST /v1/requests/{request_id}/retry`, without a server."""

from typing import Any

import httpx2
import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from tests.support.api import MAX_BODY_BYTES, SUBMISSION, assert_problem, memory_store
from tests.support.hand_worker import work_off

KEY = {"Idempotency-Key": "k"}


@pytest.fixture
async def store() -> Store:
    store = memory_store()
    await store.prepare()
    return store


async def failed_path(api: httpx2.AsyncClient, store: Store) -> str:
    """Where a request is found that failed at its second step."""
    path = (await api.post("/v1/requests", json=SUBMISSION)).headers["location"]
    await work_off(ContextManager(store), failing=("check",))
    assert (await api.get(path)).json()["status"] == "failed"
    return str(path)


def statuses(request: dict[str, Any]) -> list[str]:
    return [step["status"] for step in request["steps"]]


async def test_the_new_request_is_answered_with_its_copied_steps(
    api: httpx2.AsyncClient, store: Store
) -> None:
    path = await failed_path(api, store)
    taken = await api.post(f"{path}/retry", headers=KEY)
    assert (taken.status_code, taken.headers["retry-after"]) == (202, "1")
    body = taken.json()
    assert taken.headers["location"] == body["links"]["self"] != path
    assert body["retry_of"] == path.rpartition("/")[2]
    assert (body["status"], statuses(body)) == ("accepted", ["completed", "pending"])
    assert (body["metadata"], body["priority"]) == (SUBMISSION["metadata"], SUBMISSION["priority"])
    assert (body["steps"][0]["output"], body["steps"][0]["attempts"]) == ({"text": "draft", "attempt": 1}, [])
    assert (await api.get(taken.headers["location"])).json() == body


async def test_a_step_may_be_named_from_which_everything_runs_anew(
    api: httpx2.AsyncClient, store: Store
) -> None:
    path = await failed_path(api, store)
    bodies: list[dict[str, Any]] = [{"from_step": "draft"}, {"from_step": None}, {}]
    shown = []
    for number, body in enumerate(bodies):
        taken = await api.post(f"{path}/retry", json=body, headers={"Idempotency-Key": f"k{number}"})
        shown.append(statuses(taken.json()))
    assert shown == [["pending", "blocked"], ["completed", "pending"], ["completed", "pending"]]


async def test_the_same_key_gives_the_same_retry(api: httpx2.AsyncClient, store: Store) -> None:
    path = await failed_path(api, store)
    first = await api.post(f"{path}/retry", headers=KEY)
    again = await api.post(f"{path}/retry", headers=KEY)
    assert "idempotency-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.json() == first.json()
    other = await api.post(f"{path}/retry", headers=KEY, json={"from_step": "draft"})
    assert_problem(other, 422, "idempotency_key_reused")


async def test_what_cannot_be_retried_is_a_conflict(api: httpx2.AsyncClient, store: Store) -> None:
    path = (await api.post("/v1/requests", json=SUBMISSION)).headers["location"]
    assert_problem(await api.post(f"{path}/retry"), 409, "request_not_ended")
    await work_off(ContextManager(store))
    assert (
        "name the step" in assert_problem(await api.post(f"{path}/retry"), 409, "nothing_to_retry")["detail"]
    )
    assert_problem(await api.post("/v1/requests/none/retry"), 404, "request_not_found")


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ('{"from_step": "chek"}', "/from_step", 'did you mean "check"?'),
        ('{"from_step": 1}', "/from_step", "name of a step"),
        ('{"from": "check"}', "/from", "no such field"),
        ("[]", "", "object"),
        ("null", "", "object"),
    ],
)
async def test_a_wrong_body_is_refused_with_its_place(
    api: httpx2.AsyncClient, store: Store, body: str, pointer: str, says: str
) -> None:
    path = await failed_path(api, store)
    refused = await api.post(f"{path}/retry", content=body, headers={"Content-Type": "application/json"})
    (error,) = assert_problem(refused, 422, "invalid_submission")["errors"]
    assert error["pointer"] == pointer
    assert says in error["detail"]


async def test_a_body_must_be_json_and_below_the_limit(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.post("/v1/requests/x/retry", content=b"a"), 415, "unsupported_media_type")
    large = await api.post(
        "/v1/requests/x/retry",
        content=b" " * (MAX_BODY_BYTES + 1),
        headers={"Content-Type": "application/json"},
    )
    assert_problem(large, 413, "body_too_large")


async def test_a_retry_that_is_stored_and_cannot_be_shown_may_have_been_stored(
    api: httpx2.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await failed_path(api, store)

    async def fail(*_: object) -> None:
        raise StoreUnavailable("db-7.internal:27017 refused")

    monkeypatch.setattr(store.contexts, "of_request", fail)
    assert_problem(await api.post(f"{path}/retry", headers=KEY), 503, "outcome_unknown")
