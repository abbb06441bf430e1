"""
LoopbackGuard: the services of `dev` answer this machine, and no page of a foreign site in a browser of it.

Such a page can have its own name resolve to 127.0.0.1 (DNS rebinding); the Host header still tells that name.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.domain.hosts import LOOPBACK_HOSTS, host_of_header, host_of_origin
from agent_service.local.execute_contract import PROBLEM_TYPE, Problem


class LoopbackGuard:
    """Pure ASGI around an application; refuses every other `Host`, and every `Origin` of another host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = _problem(Headers(scope=scope)) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        answer = JSONResponse(refused.model_dump(), status_code=refused.status, media_type=PROBLEM_TYPE)
        await answer(scope, receive, send)


def _problem(headers: Headers) -> Problem | None:
    origin = headers.get("origin")
    if host_of_header(headers.get("host", "")) not in LOOPBACK_HOSTS:
        return _refused(
            HTTPStatus.MISDIRECTED_REQUEST, "foreign_host", "only this machine may ask, by its name"
        )
    if origin is not None and host_of_origin(origin) not in LOOPBACK_HOSTS:
        return _refused(HTTPStatus.FORBIDDEN, "foreign_origin", "no page of another site may ask")
    return None


def _refused(status: HTTPStatus, code: str, detail: str) -> Problem:
    return Problem(title=status.phrase, status=status, code=code, detail=detail)
