"""Access: what a call's API key lets it do, asked when the call comes in and while its stream goes on."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import cast

from fastapi import Request as HttpRequest

from agent_service.api.problems import HttpProblem, refuse
from agent_service.domain.api_key import Scope
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.request import DEFAULT_ORGANIZATION
from agent_service.keys.key_ring import FRESH, KeyRing

HEADER = "Authorization"
_CHALLENGE = 'Bearer realm="agent_service"'
#: Where a call's access is kept.
_SCOPE_KEY = "agent_service.access"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """That a call may do what `scope` says, for an organization; without a key, for the default one."""

    organization_id: str
    scope: Scope
    #: Whether it may read what steps have put out.
    may_read: bool
    keys: KeyRing
    #: The text of the key, which must not be shown.
    text: str | None = field(repr=False)

    async def wait_until_withdrawn(self, *, check_every: timedelta = FRESH) -> None:
        """
        Wait until the key does not let its holder do this any more: revoked, expired, or changed.

        Raises what `holds` raises, but for `StoreUnavailable`, after which it asks again.
        """
        while True:
            await asyncio.sleep(check_every.total_seconds())
            try:
                if not await self.holds():
                    return
            except StoreUnavailable:
                # Nothing can be read meanwhile that this could keep from anybody.
                continue

    async def holds(self) -> bool:
        """Whether the call would still be let in. Raises `StoreError` where nobody can know."""
        if self.text is None:
            return await self.keys.anonymous_allowed()
        key = await self.keys.find(self.text)
        return key is not None and self.scope in key.scopes and key.organization_id == self.organization_id


async def admit(call: HttpRequest, scope: Scope) -> Access:
    """
    Let a call in that may do what `scope` says.

    Raises HttpProblem (401, 403), and `StoreError` where nobody can know.
    """
    keys = cast("KeyRing", call.app.state.keys)
    text = read_authorization(call)
    organization_id, may_read = DEFAULT_ORGANIZATION, True
    if text is not None:
        key = await keys.find(text)
        if key is None:
            raise _invalid_key()
        if scope not in key.scopes:
            raise _insufficient(scope)
        organization_id, may_read = key.organization_id, Scope.READ in key.scopes
    elif not await keys.anonymous_allowed():
        detail = "an API key is needed: send it as `Authorization: Bearer KEY`"
        headers = {"WWW-Authenticate": _CHALLENGE}
        raise refuse(HTTPStatus.UNAUTHORIZED, "key_required", detail, headers=headers)
    access = Access(organization_id=organization_id, scope=scope, may_read=may_read, keys=keys, text=text)
    call.scope[_SCOPE_KEY] = access
    return access


def access_of(call: HttpRequest) -> Access:
    """The access of a call that was let in."""
    return cast("Access", call.scope[_SCOPE_KEY])


def read_authorization(call: HttpRequest) -> str | None:
    """What the call says is its key, or None. Raises HttpProblem for anything else in its place."""
    values = call.headers.getlist(HEADER)
    if not values:
        return None
    kind, _, text = values[0].partition(" ")
    if len(values) > 1 or kind.lower() != "bearer":
        raise _invalid_key()
    return text.strip()


def _invalid_key() -> HttpProblem:
    """The same for every wrong key, so that nobody learns which ids there are."""
    return refuse(
        HTTPStatus.UNAUTHORIZED,
        "invalid_key",
        "this API key is not valid: it is wrong, has expired, or was revoked",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
    )


def _insufficient(scope: Scope) -> HttpProblem:
    return refuse(
        HTTPStatus.FORBIDDEN,
        "insufficient_scope",
        f'this API key has no scope "{scope}"',
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
    )
