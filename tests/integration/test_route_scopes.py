"""Every operation of the OpenAPI document, with every kind of key: nothing is done and nothing is learnt."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from pymongo.asynchronous.database import AsyncDatabase
from starlette.responses import Response
from starlette.routing import Route

from agent_service.api.caller import OPEN_TO_ALL, Canceller, Reader
from agent_service.api.openapi_document import DocumentedApi
from agent_service.api.route_scopes import scope_of
from agent_service.domain.api_key import Scope
from agent_service.domain.request import Caller
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.api import SERVICES, SUBMISSION, calling, make_app, memory_store
from tests.support.api_keys import EVERY_SCOPE, a_key, bearing, expired_key, revoked_key, stored_key
from tests.support.explained_commands import Document
from tests.support.submissions import planned

#: What is open to all, because who asks has no key: supervisors.
OPEN = {"/healthz", "/readyz"}
#: As long as the id of a request that is there.
MISSING = "01a20801-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the document."""

    method: str
    path: str
    scope: Scope | None

    async def ask(self, api: httpx2.AsyncClient, request_id: str, **options: Any) -> httpx2.Response:
        path = self.path.replace("{request_id}", request_id)
        return await api.request(
            self.method, path, json=SUBMISSION if "post" in self.method else None, **options
        )


def operations() -> list[Operation]:
    """All that the document names; each scope as it says."""
    found = []
    for path, methods in make_app(memory_store()).openapi()["paths"].items():
        for method, operation in methods.items():
            security = operation.get("security")
            scope = None if security is None else Scope(security[0]["api_key"][0])
            found.append(Operation(method=method, path=path, scope=scope))
    return found


OPERATIONS = operations()
CLOSED = [operation for operation in OPERATIONS if operation.scope is not None]
ABOUT_REQUESTS = [operation for operation in CLOSED if "{request_id}" in operation.path]


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@pytest.fixture
async def request_id(store: Store) -> str:
    """A request of the organization `acme`, to which none of these keys may lead."""
    service = RequestService(store, max_attempts=SERVICES)
    accepted = await service.submit(SUBMISSION, caller=Caller(organization_id="acme"))
    await planned(store)
    return accepted.request.id


@pytest.fixture
async def api(store: Store, request_id: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with calling(make_app(store)) as client:
        yield client


def alike(response: httpx2.Response, request_id: str) -> tuple[int, str, dict[str, str]]:
    """What somebody sees of an answer, without what names this one call."""
    body = re.sub(r'"request_id":"[^"]*"', "", response.text.replace(request_id, "ID"))
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    return response.status_code, body, headers


async def documents(raw: AsyncDatabase[Document]) -> list[Document]:
    found = []
    for collection in ("requests", "contexts"):
        found += await raw[collection].find({}).sort("_id", 1).to_list()
    return found


def test_the_document_says_of_each_operation_which_scope_it_needs() -> None:
    assert {operation.path for operation in OPERATIONS if operation.scope is None} == OPEN
    assert len(CLOSED) >= 6


@pytest.mark.parametrize("operation", CLOSED, ids=named)
async def test_without_a_valid_key_every_operation_is_refused_and_nothing_is_learnt(
    store: Store, raw: AsyncDatabase[Document], api: httpx2.AsyncClient, request_id: str, operation: Operation
) -> None:
    _, valid = await stored_key(store)
    before = await documents(raw)
    values = ["", "Bearer", "Bearer a b", valid, f"Basic {valid}"]
    texts = [a_key()[1], valid[:-1], valid + "0", valid[:26] + "0" * 64, "\u00fc"]
    texts += [await expired_key(store), await revoked_key(store)]
    kinds = [[value] for value in (*values, *(f"Bearer {text}" for text in texts))]
    kinds.append([f"Bearer {valid}", f"Bearer {valid}"])
    answers = set()
    for kind in kinds:
        headers = [(b"Authorization", value.encode()) for value in kind]
        for asked in (request_id, MISSING):
            response = await operation.ask(api, asked, headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "invalid_key"), kind
            challenge = 'Bearer realm="agent_service", error="invalid_token"'
            assert response.headers["www-authenticate"] == challenge
            answers.add(str(alike(response, asked)))
    assert len(answers) == 1
    for asked in (request_id, MISSING):
        response = await operation.ask(api, asked)
        assert (response.status_code, response.json()["code"]) == (401, "key_required")
        assert response.headers["www-authenticate"] == 'Bearer realm="agent_service"'
    assert await documents(raw) == before


@pytest.mark.parametrize("operation", CLOSED, ids=named)
async def test_a_key_with_every_scope_but_the_one_that_is_needed_is_refused(
    store: Store, raw: AsyncDatabase[Document], api: httpx2.AsyncClient, request_id: str, operation: Operation
) -> None:
    assert operation.scope is not None
    _, text = await stored_key(store, scopes=EVERY_SCOPE - {operation.scope})
    _, other = await stored_key(store, "other", scopes=EVERY_SCOPE - {operation.scope})
    before = await documents(raw)
    answers = set()
    for key in (text, other):
        for asked in (request_id, MISSING):
            response = await operation.ask(api, asked, headers=bearing(key))
            assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")
            assert f'scope="{operation.scope}"' in response.headers["www-authenticate"]
            answers.add(str(alike(response, asked)))
    assert len(answers) == 1
    assert await documents(raw) == before


@pytest.mark.parametrize("operation", ABOUT_REQUESTS, ids=named)
async def test_what_is_of_another_organization_is_as_if_it_were_not_there(
    store: Store, raw: AsyncDatabase[Document], api: httpx2.AsyncClient, request_id: str, operation: Operation
) -> None:
    _, text = await stored_key(store, "other", scopes=[operation.scope])
    before = await documents(raw)
    options: dict[str, Any] = {"headers": bearing(text)}
    if operation.path.endswith("/retry"):
        options["json"] = {}
    theirs, missing = [
        await api.request(operation.method, operation.path.replace("{request_id}", asked), **options)
        for asked in (request_id, MISSING)
    ]
    assert (theirs.status_code, theirs.json()["code"]) == (404, "request_not_found")
    assert alike(theirs, request_id) == alike(missing, MISSING)
    assert await documents(raw) == before


async def test_a_key_with_the_scope_that_is_needed_reaches_what_is_its_own(
    store: Store, api: httpx2.AsyncClient, request_id: str
) -> None:
    texts = {scope: (await stored_key(store, scopes=[scope]))[1] for scope in Scope}
    path = f"/v1/requests/{request_id}"
    assert (await api.get(path, headers=bearing(texts[Scope.READ]))).status_code == 200
    submitted = await api.post("/v1/requests", json=SUBMISSION, headers=bearing(texts[Scope.SUBMIT]))
    assert submitted.status_code == 202
    assert (await api.post(f"{path}/cancel", headers=bearing(texts[Scope.CANCEL]))).status_code == 200
    stored = await store.requests.get(submitted.json()["id"])
    assert stored is not None
    assert stored.caller.organization_id == "acme"


async def test_what_is_open_to_all_needs_no_key_and_minds_no_wrong_one(
    store: Store, api: httpx2.AsyncClient
) -> None:
    await stored_key(store)
    for path in sorted(OPEN | {"/openapi.json"}):
        for headers in ({}, bearing("wrong")):
            assert (await api.get(path, headers=headers)).status_code == 200


async def handler(caller: Reader) -> Response:
    return Response(caller.organization_id)


async def careless() -> Response:
    return Response()


async def undecided(reader: Reader, canceller: Canceller) -> Response:
    return Response(reader.organization_id + canceller.organization_id)


def test_a_route_says_its_scope_by_the_type_of_its_caller() -> None:
    router = APIRouter()
    router.get("/a")(handler)
    router.get("/b", dependencies=[OPEN_TO_ALL])(careless)
    app = DocumentedApi()
    app.include_router(router)
    scopes = [scope_of(route) for route in router.routes]  # type: ignore[arg-type]  # they are of FastAPI
    assert scopes == [Scope.READ, None]


@pytest.mark.parametrize("endpoint", [careless, undecided])
def test_a_route_that_does_not_say_once_whom_it_is_for_is_not_taken_in(endpoint: Any) -> None:
    router = APIRouter()
    router.get("/careless")(endpoint)
    with pytest.raises(TypeError, match=r"GET /careless must say once whom it is for"):
        DocumentedApi().include_router(router)


def test_a_route_that_is_not_of_fastapi_is_not_taken_in() -> None:
    router = APIRouter()
    router.routes.append(Route("/plain", careless))
    with pytest.raises(TypeError, match="nothing asks for a key there"):
        DocumentedApi().include_router(router)


def test_the_application_has_no_other_routes_than_those_that_were_taken_in() -> None:
    app: FastAPI = make_app(memory_store())
    loose = [route for route in app.routes if isinstance(route, Route)]
    assert [route.path for route in loose] == ["/openapi.json"]


async def test_the_submitter_of_a_request_reads_it_with_another_key_of_its_organization(
    store: Store, api: httpx2.AsyncClient
) -> None:
    _, submit = await stored_key(store, "other", scopes=[Scope.SUBMIT])
    _, read = await stored_key(store, "other", scopes=[Scope.READ])
    taken = await api.post("/v1/requests", json=SUBMISSION, headers=bearing(submit))
    seen = await api.get(taken.headers["location"], headers=bearing(read))
    assert (seen.status_code, seen.json()["id"]) == (200, taken.json()["id"])
