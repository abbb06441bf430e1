"""
On whose behalf a call comes, and whether it may do what its route does.

Every route says which scope it asks for, in the type of its caller: `caller: Reader`, `caller: Submitter`,
`caller: Canceller` or `caller: Administrator`; or that it asks for none: `dependencies=[OPEN_TO_ALL]`.
`create_app` refuses a route that says nothing.
"""

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Security
from fastapi import Request as HttpRequest
from fastapi.security import HTTPBearer

from agent_service.api.access import admit
from agent_service.api.problems import refuse
from agent_service.domain.api_key import Scope
from agent_service.domain.request import Caller

USER_ID = "X-User-Id"
CORRELATION_ID = "X-Correlation-Id"
TRACEPARENT = "traceparent"

LONGEST_IDENTIFIER = 255
#: W3C Trace Context: version, trace id, parent id, flags; later versions may add more.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


#: Only tells the OpenAPI document that a key is asked for, and how; it refuses nothing.
_BEARER = HTTPBearer(
    scheme_name="api_key",
    bearerFormat="ask_live_ID_SECRET",
    description="An API key, made with `agent-service keys create`.",
    auto_error=False,
)


class CallerWith:
    """A dependency that is the caller of a call, once its key has been found to have a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, call: HttpRequest, _: Annotated[object, Security(_BEARER)]) -> Caller:
        """
        The caller.

        Raises HttpProblem (400) for an id that is too long or not plain text, and (401, 403) for a key that
        opens nothing or not this.
        """
        access = await admit(call, self.scope)
        return read_caller(call, access.organization_id)


def open_to_all() -> None:
    """A dependency that says: this route is for everybody, without a key."""


# FastAPI writes the scopes into the OpenAPI document.
Submitter = Annotated[Caller, Security(CallerWith(Scope.SUBMIT), scopes=[Scope.SUBMIT.value])]
Reader = Annotated[Caller, Security(CallerWith(Scope.READ), scopes=[Scope.READ.value])]
Canceller = Annotated[Caller, Security(CallerWith(Scope.CANCEL), scopes=[Scope.CANCEL.value])]
Administrator = Annotated[Caller, Security(CallerWith(Scope.ADMIN), scopes=[Scope.ADMIN.value])]
OPEN_TO_ALL = Depends(open_to_all)


def read_caller(call: HttpRequest, organization_id: str) -> Caller:
    """Who calls, for this organization. Raises HttpProblem (400) for an id that cannot be one."""
    return Caller(
        organization_id=organization_id,
        user_id=_identifier(call, USER_ID),
        correlation_id=_identifier(call, CORRELATION_ID),
        traceparent=_traceparent(call),
    )


def log_fields(call: HttpRequest, caller: Caller) -> dict[str, str]:
    """What is logged of a caller until the call is answered."""
    fields = {"organization_id": caller.organization_id, "correlation_id": caller.correlation_id}
    fields["request_id"] = call.path_params.get("request_id")
    return {name: value for name, value in fields.items() if value is not None}


def _identifier(call: HttpRequest, name: str) -> str | None:
    values = call.headers.getlist(name)
    if not values or values == [""]:
        return None
    # Headers are bytes that Starlette reads as Latin-1; what people send beyond ASCII is UTF-8.
    try:
        text = values[0].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if len(values) == 1 and text.isprintable() and 0 < len(text) <= LONGEST_IDENTIFIER:
        return text
    detail = f"{name} must be given once, as 1 to {LONGEST_IDENTIFIER} printable characters in UTF-8"
    raise refuse(HTTPStatus.BAD_REQUEST, "invalid_header", detail)


def _traceparent(call: HttpRequest) -> str | None:
    """A trace that cannot be read is started anew and never a reason to refuse a call, as W3C asks."""
    values = call.headers.getlist(TRACEPARENT)
    if len(values) == 1 and _TRACEPARENT.fullmatch(values[0]):
        return values[0]
    return None
