"""How calls find their routes, and what the functions of routes are given."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, Header, Query
from fastapi import Request as HttpRequest
from loguru import logger
from starlette.responses import JSONResponse, Response, StreamingResponse

from agent_service.api.app import create_app
from agent_service.api.caller import OPEN_TO_ALL, Reader
from agent_service.api.dispatcher import Dispatcher
from agent_service.api.openapi_document import DocumentedApi
from agent_service.request_service import RequestService
from tests.support.api import MAX_BODY_BYTES, assert_problem, calling, make_app, memory_store
from tests.support.api_keys import bearing, stored_key


def app_with(function: Any, path: str = "/things/{name}", **options: Any) -> DocumentedApi:
    """An application with this one route, without what is around the dispatcher."""
    router = APIRouter(**options)
    router.get(path, response_class=Response)(function)
    app = DocumentedApi()
    app.include_router(router)
    app.middleware_stack = Dispatcher(app.taken_in, others=app.router)
    return app


async def test_a_function_is_given_the_call_and_what_path_and_query_say() -> None:
    async def show(
        call: HttpRequest, name: str, size: Annotated[int, Query(ge=1)] = 7, after: str | None = None
    ) -> Response:
        return JSONResponse([call.url.path, name, size, after])

    async with calling(app_with(show, dependencies=[OPEN_TO_ALL])) as api:
        assert (await api.get("/things/a%20b")).json() == ["/things/a b", "a b", 7, None]
        assert (await api.get("/things/x?size=2&after=y")).json() == ["/things/x", "x", 2, "y"]


async def test_a_parameter_that_is_wrong_is_named() -> None:
    async with calling(make_app(memory_store())) as api:
        problem = assert_problem(await api.get("/v1/requests/x/events?limit=0"), 422, "invalid_parameter")
    assert [error["pointer"] for error in problem["errors"]] == ["/query/limit"]


async def test_who_may_not_come_in_is_told_so_and_not_what_is_wrong_with_the_call() -> None:
    store = memory_store()
    await stored_key(store)
    async with calling(make_app(store)) as api:
        assert_problem(await api.get("/v1/requests/x/events?limit=0"), 401, "key_required")


async def forged(name: str, x_role: Annotated[str, Header()] = "none") -> Response:
    return Response(name + x_role)


def test_a_function_that_asks_for_something_else_is_told_at_the_start() -> None:
    with pytest.raises(TypeError, match=r"/things/\{name\}.* x_role"):
        app_with(forged, dependencies=[OPEN_TO_ALL])


async def test_what_is_logged_while_an_answer_is_sent_says_whose_it_is() -> None:
    async def stream(caller: Reader) -> Response:
        async def pieces() -> Any:
            for piece in ("one ", caller.organization_id):
                await asyncio.sleep(0)
                logger.info("sending")
                yield piece

        return StreamingResponse(pieces())

    store = memory_store()
    _, key = await stored_key(store, "acme")
    app = app_with(stream, "/stream")
    app.state.keys = create_app(
        store, RequestService(store, max_attempts={}), max_body_bytes=MAX_BODY_BYTES
    ).state.keys
    lines: list[dict[str, Any]] = []
    sink = logger.add(lambda message: lines.append(dict(message.record["extra"])))
    try:
        async with calling(app) as api:
            assert (await api.get("/stream", headers=bearing(key))).text == "one acme"
        logger.info("afterwards")
    finally:
        logger.remove(sink)
    assert [line.get("organization_id") for line in lines] == ["acme", "acme", None]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/healthz", "GET"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("DELETE", "/v1/requests/x/cancel", "POST"),
    ],
)
async def test_a_method_that_a_path_does_not_have_is_answered_with_those_that_it_has(
    method: str, path: str, allowed: str
) -> None:
    async with calling(make_app(memory_store())) as api:
        answer = await api.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == set(allowed.split(", "))


async def test_a_path_with_more_behind_it_is_not_found() -> None:
    async with calling(make_app(memory_store())) as api:
        for path in ("/healthz/", "/v1/requests/x/cancel/y", "/v1/requests/"):
            assert_problem(await api.get(path), 404, "not_found")


def test_what_a_route_depends_on_besides_its_caller_is_told_at_the_start() -> None:
    async def show(name: str) -> Response:
        return Response(name)

    async def limited(caller: Reader) -> None:
        """Lets in who may read, one level down."""

    async def counted() -> None:
        """Would be run by nobody."""

    for depends_on in ([Depends(limited)], [OPEN_TO_ALL, Depends(counted)]):
        with pytest.raises(TypeError, match="nobody would run"):
            app_with(show, dependencies=depends_on)
    with pytest.raises(TypeError, match="as they are"):
        DocumentedApi().include_router(APIRouter(), prefix="/elsewhere")
