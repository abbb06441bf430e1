"""
HostGuard: only the names of this machine, while anybody who reaches the API may use it.

A page of a foreign site can have its own name resolve to 127.0.0.1 (DNS rebinding) and would then be of one
origin with an API on loopback; the Host header still tells what name the browser was given.
"""

from collections.abc import Collection
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.api.headers import headers_of
from agent_service.api.problems import Problem, problem_response
from agent_service.domain.hosts import host_of_header, host_of_origin

_MISDIRECTED = Problem(
    status=HTTPStatus.MISDIRECTED_REQUEST,
    code="foreign_host",
    detail="without API_KEYS_FILE or API_REQUIRE_KEYS only this machine may ask, under the name localhost,"
    " 127.0.0.1 or [::1]",
)
_FOREIGN = Problem(
    status=HTTPStatus.FORBIDDEN,
    code="foreign_origin",
    detail="without API_KEYS_FILE or API_REQUIRE_KEYS no page of another site may ask",
)


class HostGuard:
    """Pure ASGI around the application; refuses every other `Host`, and every `Origin` of another host."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        origin = headers.get("origin")
        if host_of_header(headers.get("host", "")) not in self._hosts:
            await problem_response(_MISDIRECTED, scope)(scope, receive, send)
        elif origin is not None and host_of_origin(origin) not in self._hosts:
            await problem_response(_FOREIGN, scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
