"""`GET /v1/requests`, without a server."""

import httpx2
from jsonschema import Draft202012Validator

from agent_service.context_manager import ContextManager
from agent_service.domain.request import Caller
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.api import SERVICES, SUBMISSION, assert_problem
from tests.support.hand_worker import claim, work_off

SUMMARY = (
    "id",
    "status",
    "steps",
    "metadata",
    "priority",
    "user_id",
    "correlation_id",
    "retry_of",
    "cancel_requested",
    "created_at",
    "deadline_at",
    "finished_at",
    "links",
)


async def submit(api: httpx2.AsyncClient, count: int) -> list[str]:
    """The ids of new requests, newest first."""
    ids = [(await api.post("/v1/requests", json=SUBMISSION)).json()["id"] for _ in range(count)]
    return ids[::-1]


async def test_a_list_shows_of_each_request_what_the_request_shows_too(
    api: httpx2.AsyncClient, store: Store
) -> None:
    [request_id] = await submit(api, 1)
    for _ in range(2):
        listed = await api.get("/v1/requests")
        assert (listed.status_code, listed.headers["cache-control"]) == (200, "no-store")
        assert "link" not in listed.headers
        [summary] = listed.json()["requests"]
        assert listed.json()["next"] is None
        assert tuple(summary) == SUMMARY
        shown = (await api.get(f"/v1/requests/{request_id}")).json()
        steps = [{"name": step["name"], "service": step["service"]} for step in shown.pop("steps")]
        assert summary["steps"] == steps
        assert {name: summary[name] for name in shown} == shown
        await work_off(ContextManager(store))


async def test_what_a_worker_has_begun_runs_in_a_list_too(api: httpx2.AsyncClient, store: Store) -> None:
    await submit(api, 1)
    await claim(ContextManager(store), "generation")
    assert [each["status"] for each in (await api.get("/v1/requests")).json()["requests"]] == ["running"]
    assert (await api.get("/v1/requests?status=accepted")).json() == {"requests": [], "next": None}
    assert len((await api.get("/v1/requests?status=running")).json()["requests"]) == 1


async def test_the_link_leads_through_all_pages(api: httpx2.AsyncClient) -> None:
    ids = await submit(api, 5)
    seen: list[str] = []
    path = "/v1/requests?limit=2&metadata.team=a/b&status=accepted"
    while path:
        page = await api.get(path)
        seen += [each["id"] for each in page.json()["requests"]]
        following = page.links.get("next", {}).get("url", "")
        assert bool(following) == (page.json()["next"] is not None)
        # What arrives meanwhile is newer than every page to come.
        await api.post("/v1/requests", json=SUBMISSION, headers={"Idempotency-Key": f"n{len(seen)}"})
        path = following
    assert seen == ids


async def test_another_organization_sees_nothing_and_its_cursor_is_worth_nothing(
    api: httpx2.AsyncClient, store: Store
) -> None:
    service = RequestService(store, max_attempts=SERVICES)
    for number in range(2):
        await service.submit(SUBMISSION, caller=Caller(organization_id="theirs"), idempotency_key=f"{number}")
    assert (await api.get("/v1/requests")).json() == {"requests": [], "next": None}
    cursor = (await service.list(organization_id="theirs", limit=1)).next
    assert_problem(await api.get(f"/v1/requests?after={cursor}"), 400, "invalid_cursor")


async def test_a_broken_cursor_and_a_wrong_parameter_are_problems(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.get("/v1/requests?after=x"), 400, "invalid_cursor")
    assert_problem(await api.get("/v1/requests?after="), 400, "invalid_cursor")
    refused = assert_problem(await api.get("/v1/requests?page=2"), 422, "invalid_parameter")
    assert [error["pointer"] for error in refused["errors"]] == ["/query/page"]


async def test_the_document_describes_the_list(api: httpx2.AsyncClient) -> None:
    await submit(api, 2)
    document = (await api.get("/openapi.json")).json()
    operation = document["paths"]["/v1/requests"]["get"]
    assert operation["operationId"] == "list_requests"
    assert set(operation["responses"]) == {"200", "400", "401", "403", "422", "default"}
    content = operation["responses"]["200"]["content"]["application/json"]
    validator = Draft202012Validator({**document, **content["schema"]})
    validator.validate(content["example"])
    validator.validate((await api.get("/v1/requests?limit=1")).json())
