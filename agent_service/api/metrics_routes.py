"""The route that Prometheus scrapes."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from loguru import logger
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.caller import Administrator
from agent_service.api.fleet_metrics import FleetMetrics
from agent_service.api.openapi_document import text_answer
from agent_service.domain.errors import StoreError, StoreUnavailable
from agent_service.insights import FleetStatistics, Insights

_OPENMETRICS_TYPE = "application/openmetrics-text"
_OPENMETRICS = f"{_OPENMETRICS_TYPE}; version=1.0.0"


def metrics_routes(insights: Insights, calls: BoundedCalls, registry: CollectorRegistry) -> APIRouter:
    """`GET /metrics`: what is in `registry`, which is this process's, and the metrics of the fleet."""
    router = APIRouter(tags=["fleet"])
    fleet = FleetMetrics()
    registry.register(fleet)

    @router.get(
        "/metrics",
        operation_id="metrics",
        response_class=Response,
        responses=text_answer(
            HTTPStatus.OK,
            "Metrics of this process and of the fleet, in the text format of Prometheus, or as OpenMetrics"
            " where Accept asks for it. Without MongoDB those of the fleet are missing.",
            example='agent_service_queue_ready{service="generation",queue="default"} 3.0',
        ),
    )
    async def metrics(call: HttpRequest, _: Administrator) -> Response:
        """Tell Prometheus what this process and the whole fleet have done and have to do."""
        statistics = await _statistics(insights, calls)
        # Between these two nobody else has a turn, so each scrape shows its own.
        fleet.show(statistics)
        return _exposed(registry, call.headers.get("accept", ""))

    return router


async def _statistics(insights: Insights, calls: BoundedCalls) -> FleetStatistics | None:
    """None where MongoDB does not answer: then the process still has something to tell."""
    late = StoreUnavailable("reading the statistics took longer than a scrape can wait")
    try:
        return await calls.run(insights.statistics(), late=late)
    except StoreError as error:
        logger.warning("the metrics of the fleet are missing in this scrape: {}", error)
        return None


def _exposed(registry: CollectorRegistry, accept: str) -> Response:
    # What else a caller may ask for, such as another escaping of names, makes no difference to ours.
    encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS_TYPE in accept.lower() else "")
    # Given as a header, because a media type would get a second charset.
    return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})
