"""The routes that operators ask about the whole fleet: its health, and its statistics."""

from http import HTTPStatus

from fastapi import APIRouter
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Administrator
from agent_service.api.fleet_answer import (
    FleetHealthAnswer,
    FleetStatisticsAnswer,
    health_answer,
    statistics_answer,
)
from agent_service.api.fleet_examples import HEALTHY, STATISTICS, UNHEALTHY
from agent_service.api.openapi_document import answers
from agent_service.domain.errors import StoreUnavailable
from agent_service.insights import Insights


def fleet_routes(insights: Insights, calls: BoundedCalls) -> APIRouter:
    """`GET /workers/health` and `GET /workers/stats`."""
    router = APIRouter(tags=["fleet"])

    @router.get(
        "/workers/health",
        operation_id="fleet_health",
        response_class=Response,
        responses={
            **answers(
                HTTPStatus.OK,
                "Every queue with contexts that can be claimed has a living worker.",
                FleetHealthAnswer,
                example=HEALTHY,
            ),
            **answers(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Contexts wait where nobody takes them; `unserved` says where, and why.",
                FleetHealthAnswer,
                example=UNHEALTHY,
            ),
        },
    )
    async def fleet_health(_: Administrator) -> Response:
        """Say which workers live, and whether contexts wait that none of them takes."""
        late = StoreUnavailable("reading the health of the fleet took longer than its caller can wait")
        health = await calls.run(insights.health(), late=late)
        status = HTTPStatus.OK if health.healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return _answer(health_answer(health), status)

    @router.get(
        "/workers/stats",
        operation_id="fleet_statistics",
        response_class=Response,
        responses=answers(
            HTTPStatus.OK, "The fleet at this moment.", FleetStatisticsAnswer, example=STATISTICS
        ),
    )
    async def fleet_statistics(_: Administrator) -> Response:
        """Count what waits, runs and has ended in each queue, and say who works and what is held."""
        late = StoreUnavailable("reading the statistics took longer than their caller can wait")
        return _answer(statistics_answer(await calls.run(insights.statistics(), late=late)), HTTPStatus.OK)

    return router


def _answer(body: FleetHealthAnswer | FleetStatisticsAnswer, status: HTTPStatus) -> Response:
    return Response(
        body.to_json(),
        status_code=status,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )
