"""Cancelling over HTTP: what waits ends at once, and only what had ended before is refused."""

from datetime import timedelta

import httpx2
import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.request import Caller
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.api import SERVICES, SUBMISSION, assert_problem, calling, make_app
from tests.support.hand_worker import claim, work_off


async def submitted(api: httpx2.AsyncClient) -> str:
    return str((await api.post("/v1/requests", json=SUBMISSION)).json()["id"])


async def test_a_request_that_waits_ends_and_is_shown_as_it_ended(api: httpx2.AsyncClient) -> None:
    request_id = await submitted(api)
    for _ in range(2):
        cancelled = await api.post(f"/v1/requests/{request_id}/cancel")
        assert cancelled.status_code == 200
        assert "retry-after" not in cancelled.headers
        assert cancelled.headers["cache-control"] == "no-store"
        body = cancelled.json()
        assert (body["id"], body["status"]) == (request_id, "cancelled")
        assert [(step["status"], step["error"]["code"]) for step in body["steps"]] == [
            ("cancelled", "cancelled")
        ] * 2
        assert body == (await api.get(f"/v1/requests/{request_id}")).json()


async def test_a_request_that_runs_is_asked_to_end(api: httpx2.AsyncClient, store: Store) -> None:
    request_id = await submitted(api)
    [context] = await claim(ContextManager(store), "generation")
    asked = await api.post(f"/v1/requests/{request_id}/cancel")
    assert (asked.status_code, asked.headers["retry-after"]) == (202, "1")
    assert [step["status"] for step in asked.json()["steps"]] == ["running", "cancelled"]
    contexts = await store.contexts.of_request(request_id)
    running = next(found for found in contexts if found.id == context.id)
    assert (running.cancel_requested, running.status) == (True, ContextStatus.RUNNING)


async def test_a_request_that_had_ended_is_refused(api: httpx2.AsyncClient, store: Store) -> None:
    request_id = await submitted(api)
    await work_off(ContextManager(store))
    refused = await api.post(f"/v1/requests/{request_id}/cancel")
    assert "completed" in assert_problem(refused, 409, "request_already_ended")["detail"]


async def test_the_request_of_another_organization_is_not_found(
    api: httpx2.AsyncClient, store: Store
) -> None:
    theirs = await RequestService(store, max_attempts=SERVICES).submit(
        SUBMISSION, caller=Caller(organization_id="theirs")
    )
    for request_id in (theirs.request.id, "none"):
        assert_problem(await api.post(f"/v1/requests/{request_id}/cancel"), 404, "request_not_found")
    request = await store.requests.get(theirs.request.id)
    assert request is not None
    assert not request.cancel_requested


async def test_an_answer_that_was_lost_is_told_as_unknown(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise WriteOutcomeUnknown("no answer")

    async with calling(make_app(store, answer_within=timedelta(seconds=5))) as api:
        request_id = await submitted(api)
        monkeypatch.setattr(store.cancellation, "ask", lost)
        refused = await api.post(f"/v1/requests/{request_id}/cancel")
    assert_problem(refused, 503, "outcome_unknown")
    assert int(refused.headers["retry-after"]) >= 1


async def test_the_document_tells_every_answer(api: httpx2.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    operation = document["paths"]["/v1/requests/{request_id}/cancel"]["post"]
    assert operation["operationId"] == "cancel_request"
    assert set(operation["responses"]) == {"200", "202", "401", "403", "404", "409", "default"}
    for status, kind in (("200", "RequestAnswer"), ("202", "RequestAnswer"), ("409", "ProblemBody")):
        [content] = operation["responses"][status]["content"].values()
        assert content["schema"] == {"$ref": f"#/components/schemas/{kind}"}
