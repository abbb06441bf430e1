"""HttpMetrics: the calls that this process answers, by the template of their route, not by their path."""

import functools
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.telemetry.metrics import BOUNDS

_LABELS = ("method", "route", "status")
#: Whatever else somebody sends must not become a series of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"
#: The status of a call that got no answer, as its caller went away.
_NO_ANSWER = "none"
_STREAM = b"text/event-stream"


class HttpMetrics:
    """Counts calls, the time until their answers began, and the event streams that are open."""

    def __init__(self, registry: CollectorRegistry) -> None:
        calls = Counter(
            "agent_service_http_requests", "HTTP calls, by route template.", _LABELS, registry=registry
        )
        seconds = Histogram(
            "agent_service_http_request_duration_seconds",
            "From the call to the beginning of its answer.",
            ("method", "route"),
            buckets=BOUNDS,
            registry=registry,
        )
        # There are few of them, and finding one takes longer than counting.
        self._calls = functools.cache(calls.labels)
        self._seconds = functools.cache(seconds.labels)
        self._streams = Gauge(
            "agent_service_sse_clients", "Event streams that are open in this process.", registry=registry
        )

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with every call counted; streams pass through unbuffered."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            call = _Call(self, scope)

            async def send_counted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    call.answered(message)
                await send(message)

            try:
                await app(scope, receive, send_counted)
            finally:
                call.over()

        return counted

    def count(self, method: str, route: str, status: str, seconds: float) -> None:
        """A call was answered, or never was."""
        self._calls(method, route, status).inc()
        self._seconds(method, route).observe(seconds)

    def streams(self, change: int) -> None:
        """So many streams more are open."""
        self._streams.inc(change)


class _Call:
    """One call on its way."""

    def __init__(self, metrics: HttpMetrics, scope: Scope) -> None:
        self._metrics = metrics
        self._scope = scope
        self._began = time.monotonic()
        self._counted = self._streams = False

    def answered(self, start: Message) -> None:
        """Its answer begins with this message."""
        self._count(str(start["status"]))
        if any(
            name == b"content-type" and value.startswith(_STREAM) for name, value in start.get("headers", ())
        ):
            self._streams = True
            self._metrics.streams(+1)

    def over(self) -> None:
        """Nothing more comes of it."""
        self._count(_NO_ANSWER)
        if self._streams:
            self._metrics.streams(-1)

    def _count(self, status: str) -> None:
        if self._counted:
            return
        self._counted = True
        method = self._scope["method"] if self._scope["method"] in _METHODS else _OTHER
        # The router puts the route that it found there; what was refused before or found none has none.
        route = getattr(self._scope.get("route"), "path", _OTHER)
        self._metrics.count(method, route, status, time.monotonic() - self._began)
