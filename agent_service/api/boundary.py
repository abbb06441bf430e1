"""Boundary: names every call, and lets no error out as anything but a problem."""

import os
import re
from http import HTTPStatus

from loguru import logger
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.api.caller import CORRELATION_ID
from agent_service.api.error_handlers import problem_of
from agent_service.api.headers import headers_of
from agent_service.api.problems import SCOPE_KEY, Problem, problem_response
from agent_service.api.security_headers import add_security_headers

HEADER = "X-Request-Id"
_RAW_HEADER = HEADER.lower().encode()
#: A caller's id is taken over when it can stand in a log line; otherwise it gets one of ours.
_ACCEPTABLE = re.compile(r"[!-~]{1,128}")

_INTERNAL = Problem(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    code="internal_error",
    detail="something went wrong on our side; the log says what, under this request_id",
)


class Boundary:
    """
    Pure ASGI around the application, so that streams pass through it unbuffered.

    An error becomes the problem that it has, and what nobody foresaw a 500 that says nothing. Every answer
    carries X-Request-Id, and so does every line that is logged meanwhile, as `http_request_id`, beside the
    caller's `correlation_id`; and every answer has the security headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        http_request_id = _acceptable(headers, HEADER) or os.urandom(16).hex()
        scope[SCOPE_KEY] = http_request_id
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                add_security_headers(message)
                message["headers"].append((_RAW_HEADER, http_request_id.encode()))
            await send(message)

        correlation_id = _acceptable(headers, CORRELATION_ID)
        with logger.contextualize(http_request_id=http_request_id, correlation_id=correlation_id):
            try:
                await self._app(scope, receive, send_named)
            except ClientDisconnect:
                logger.debug("the caller of {} {} went away", scope["method"], scope["path"])
            except Exception as error:
                problem = None if started else problem_of(error)
                if problem is None:
                    logger.exception("{} {} failed", scope["method"], scope["path"])
                elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    _log_unserved(problem, error, scope)
                if started:
                    # Only cutting the connection can still say that the answer is not whole.
                    raise
                await problem_response(problem or _INTERNAL, scope)(scope, receive, send_named)


def _log_unserved(problem: Problem, error: Exception, scope: Scope) -> None:
    call = HttpRequest(scope)
    log = logger.bind(code=problem.code, request_id=call.path_params.get("request_id"))
    log.warning("{} {} was not served: {}", call.method, call.url.path, error)


def _acceptable(headers: Headers, name: str) -> str | None:
    value = headers.get(name, "")
    return value if _ACCEPTABLE.fullmatch(value) else None
