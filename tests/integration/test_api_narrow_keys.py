"""What a key of a single scope is shown by the routes that it opens."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from agent_service.domain.api_key import Scope
from agent_service.domain.context import ContextStatus
from agent_service.store import Store
from tests.support.api import calling, make_app
from tests.support.api_keys import bearing, stored_key
from tests.support.worker_tools import HandlerWorker, echo, running, when

SECRET = "what the model said"
STEP = {"service": "generation", "input": SECRET}
RESULTS = ("output", "error", "usage")


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(HandlerWorker(store, echo)), calling(make_app(store)) as client:
        yield client


async def key_of(store: Store, *scopes: Scope) -> dict[str, str]:
    """The headers of a call with a key of these scopes."""
    return bearing((await stored_key(store, scopes=frozenset(scopes)))[1])


async def ended_request(api: httpx2.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    answer = await api.post("/v1/requests", json=STEP, headers={**headers, "Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == "completed"
    return body


async def test_who_may_only_submit_sees_that_a_request_ended_and_not_what_with(
    store: Store, api: httpx2.AsyncClient
) -> None:
    submitter = await key_of(store, Scope.SUBMIT)
    taken = await ended_request(api, submitter)
    again = await api.post(
        f"/v1/requests/{taken['id']}/retry", json={"from_step": "generation"}, headers=submitter
    )
    assert again.status_code == 202
    for step in (*taken["steps"], *again.json()["steps"]):
        assert [step[name] for name in RESULTS] == [None] * 3
        assert step["attempts"] == []
    assert (await api.get(f"/v1/requests/{taken['id']}", headers=submitter)).status_code == 403


async def test_who_may_only_cancel_sees_no_results_of_what_it_cancels(
    store: Store, api: httpx2.AsyncClient
) -> None:
    owner, canceller = await key_of(store, Scope.SUBMIT, Scope.READ), await key_of(store, Scope.CANCEL)
    plan = {
        "steps": [
            {"name": "draft", **STEP},
            {"name": "check", "service": "analysis", "input": "x", "after": ["draft"]},
        ]
    }
    taken = (await api.post("/v1/requests", json=plan, headers=owner)).json()
    path = f"/v1/requests/{taken['id']}"
    await when(store, f"{taken['id']}.draft", lambda context: context.status is ContextStatus.COMPLETED)
    cancelled = await api.post(f"{path}/cancel", headers=canceller)
    assert cancelled.status_code == 200
    assert SECRET not in cancelled.text
    assert SECRET in (await api.get(path, headers=owner)).text


async def test_who_may_submit_and_read_gets_the_result_with_the_answer(
    store: Store, api: httpx2.AsyncClient
) -> None:
    taken = await ended_request(api, await key_of(store, Scope.SUBMIT, Scope.READ))
    assert taken["steps"][0]["output"] == SECRET
