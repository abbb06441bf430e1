"""create_app: the HTTP API as one ASGI application."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from datetime import timedelta

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.types import ASGIApp

from agent_service.api.action_routes import action_routes
from agent_service.api.batch_routes import batch_routes
from agent_service.api.boundary import Boundary
from agent_service.api.bounded_calls import ANSWER_WITHIN, BoundedCalls
from agent_service.api.dispatcher import Dispatcher
from agent_service.api.event_routes import event_routes
from agent_service.api.event_stream import PING_EVERY
from agent_service.api.fleet_routes import fleet_routes
from agent_service.api.health_routes import health_routes
from agent_service.api.host_guard import HostGuard
from agent_service.api.http_metrics import HttpMetrics
from agent_service.api.json_request import READ_WITHIN, BodyLimit
from agent_service.api.list_routes import list_routes
from agent_service.api.metrics_routes import metrics_routes
from agent_service.api.openapi_document import PROBLEM_RESPONSES, DocumentedApi
from agent_service.api.reference_page import reference_page_routes
from agent_service.api.request_routes import request_routes
from agent_service.api.waiting import Waiting
from agent_service.insights import Insights
from agent_service.keys.key_ring import KeyRing
from agent_service.request_service import RequestService
from agent_service.store import Store

#: How long a stopping application waits for writes whose callers were answered already.
_FINISH_WITHIN = timedelta(seconds=5)


def create_app(
    store: Store,
    requests: RequestService,
    *,
    max_body_bytes: int,
    body_timeout: timedelta = READ_WITHIN,
    keys: KeyRing | None = None,
    hosts: Collection[str] | None = None,
    ping_every: timedelta = PING_EVERY,
    answer_within: timedelta = ANSWER_WITHIN,
) -> FastAPI:
    """
    The API over a store and the service that works on it; the caller opens and closes both.

    `keys` are those that open it; left out, those in the store. `hosts`, if given, are the only names under
    which it answers. `app.state.draining` is an `asyncio.Event`: once set, open event streams say so and
    end, and who waits is answered.
    """
    calls = BoundedCalls(answer_within)
    insights = Insights(store)
    # Of this application alone, so that several in one process do not meet.
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    draining = asyncio.Event()
    waiting = Waiting(requests, calls, draining=draining)
    body_limit = BodyLimit(max_body_bytes, body_timeout)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await calls.finish(_FINISH_WITHIN)

    app = DocumentedApi(
        title="agent_service",
        version="1",
        summary="Requests whose steps are done by base services, reliably.",
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI would look for each call whether somebody traces it; nothing here is traced by it.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lifespan,
        responses=PROBLEM_RESPONSES,
    )
    app.state.draining = draining
    app.state.keys = keys or KeyRing(store)
    app.include_router(request_routes(requests, calls, waiting, body_limit=body_limit))
    app.include_router(list_routes(requests, calls))
    app.include_router(action_routes(requests, calls, waiting, body_limit=body_limit))
    app.include_router(batch_routes(requests, calls, body_limit=body_limit))
    app.include_router(event_routes(requests, calls, draining=draining, ping_every=ping_every))
    app.include_router(health_routes(store, calls))
    app.include_router(fleet_routes(insights, calls))
    app.include_router(metrics_routes(insights, calls, registry))
    app.include_router(reference_page_routes())
    served: ASGIApp = Dispatcher(app.taken_in, others=app.router)
    if hosts is not None:
        served = HostGuard(served, hosts=hosts)
    # In place of FastAPI's own: the boundary answers errors, and what it answers is counted too.
    app.middleware_stack = HttpMetrics(registry).around(Boundary(served))
    return app
