"""Dispatcher: finds the route of a call, lets its caller in, and sends what the route's function returns."""

import inspect
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.api.caller import CallerWith, log_fields, open_to_all
from agent_service.api.headers import Call
from agent_service.api.route_scopes import scope_of
from agent_service.domain.request import Caller


class Dispatcher:
    """
    Serves routes that FastAPI describes, without what FastAPI does for each call anew.

    What a route's function asks for is read from its signature once. Whatever no route is for, which is the
    OpenAPI document, the start and the stop, and what there is not, goes on to `others`. Errors are not
    answered here.
    """

    def __init__(self, routes: Sequence[APIRoute], *, others: ASGIApp) -> None:
        self._served = [_Served(route) for route in routes]
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call. Raises HTTPException (404, 405), and what the route raises."""
        if scope["type"] == "http":
            met: list[APIRoute] = []
            for served in self._served:
                match, found = served.route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await served.serve(scope, receive, send)
                    return
                if match is Match.PARTIAL:
                    met.append(served.route)
            if met:
                # Those of all routes of the path (RFC 9110, section 10.2.1).
                allowed = sorted({method for route in met for method in route.methods or ()})
                scope["route"] = met[0]
                raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(allowed)})
        await self._others(scope, receive, send)


class _Served:
    """A route, and what its function is given. Raises TypeError for one that asks for anything else."""

    def __init__(self, route: APIRoute) -> None:
        self.route = route
        asked = route.dependant
        self._in_path, self._in_query = asked.path_params, asked.query_params
        self._call = asked.request_param_name
        #: Lets the caller in, and the name under which the function is given it; both None for everybody.
        self._let_in: CallerWith | None = None
        self._caller: str | None = None
        for each in asked.dependencies:
            if isinstance(each.call, CallerWith) and self._let_in is None:
                self._let_in, self._caller = each.call, each.name
            elif each.call is not open_to_all or each.dependencies:
                raise TypeError(f"{route.path}: nobody would run what it depends on: {each.call}")
        if (self._let_in is None) != (scope_of(route) is None):
            raise TypeError(f"{route.path}: whom it is for is said where nobody looks")
        given = {self._call, self._caller, *(field.name for field in (*self._in_path, *self._in_query))}
        unknown = inspect.signature(route.endpoint).parameters.keys() - given
        if unknown:
            raise TypeError(f"{route.path}: no function of a route is given {', '.join(sorted(unknown))}")

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the caller in, and answer. What is logged meanwhile says who it is."""
        call = Call(scope, receive, send)
        if self._let_in is None:
            await self._answer(call, None, send)
            return
        caller = await self._let_in(call, None)
        with logger.contextualize(**log_fields(call, caller)):
            await self._answer(call, caller, send)

    async def _answer(self, call: Call, caller: Caller | None, send: Send) -> None:
        given: dict[str, Any] = self._parameters(call) if self._in_path or self._in_query else {}
        if self._call is not None:
            given[self._call] = call
        if self._caller is not None:
            given[self._caller] = caller
        response: Response = await self.route.endpoint(**given)
        await response(call.scope, call.receive, send)

    def _parameters(self, call: Call) -> dict[str, Any]:
        """Those of the path and of the query. Raises RequestValidationError."""
        in_path, errors = request_params_to_args(self._in_path, call.path_params)
        in_query, more = request_params_to_args(self._in_query, call.query_params)
        if errors or more:
            raise RequestValidationError([*errors, *more])
        return in_path | in_query
