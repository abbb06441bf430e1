"""The routes that a supervisor asks: does the process live, and can it serve?"""

from http import HTTPStatus

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import OPEN_TO_ALL
from agent_service.api.openapi_document import answers, problem_answer
from agent_service.api.problems import refuse
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store

_NO_STORE = {"Cache-Control": "no-store"}


def health_routes(store: Store, calls: BoundedCalls) -> APIRouter:
    """`GET /healthz` and `GET /readyz`."""
    router = APIRouter(tags=["health"], dependencies=[OPEN_TO_ALL])

    @router.get(
        "/healthz",
        operation_id="healthz",
        response_class=Response,
        responses={
            **answers(HTTPStatus.OK, "The process lives; MongoDB is not asked.", example={"status": "ok"}),
            **problem_answer(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The process lost a loop that it cannot work without, and stops.",
                code="unhealthy",
            ),
        },
    )
    async def healthz() -> Response:
        """Say whether the process lives and works."""
        failure = store.supervisor.failure
        if failure is not None:
            raise refuse(HTTPStatus.SERVICE_UNAVAILABLE, "unhealthy", str(failure))
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    @router.get(
        "/readyz",
        operation_id="readyz",
        response_class=Response,
        responses={
            **answers(
                HTTPStatus.OK,
                "MongoDB has a primary, and all indexes are there.",
                example={"status": "ready"},
            ),
            **problem_answer(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Requests cannot be taken; why, is said here.",
                code="not_ready",
            ),
        },
    )
    async def readyz() -> Response:
        """Say whether requests can be taken; nothing is said of workers."""
        late = StoreUnavailable("MongoDB did not answer in time")
        problems = await calls.run(store.problems(), late=late)
        if problems:
            raise refuse(
                HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "; ".join(problems), headers={"Retry-After": "5"}
            )
        return JSONResponse({"status": "ready"}, headers=_NO_STORE)

    return router
