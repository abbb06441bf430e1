"""Waiting: calls that stay open until a request has ended, as their callers prefer (RFC 7240)."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

from fastapi import Request as HttpRequest
from loguru import logger
from starlette.requests import ClientDisconnect

from agent_service.api.access import access_of
from agent_service.api.bounded_calls import BoundedCalls
from agent_service.api.disconnection import wait_until_gone
from agent_service.api.preferences import applied_wait, read_wait
from agent_service.domain.errors import AgentServiceError, RequestNotFound, StoreError, StoreUnavailable
from agent_service.domain.request import Caller
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService

#: Calls of one process that wait at the same time; further ones are answered at once.
MOST_WAITING = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """How a request stands after the wait, and whether it was `preferred`; `headers` say so to the caller."""

    view: RequestView
    preferred: bool
    headers: dict[str, str]


class Waiting:
    """Keeps calls until their request has ended, their time is over, their caller is gone, or we stop."""

    def __init__(
        self,
        requests: RequestService,
        calls: BoundedCalls,
        *,
        draining: asyncio.Event,
        most: int = MOST_WAITING,
    ) -> None:
        self._requests = requests
        self._calls = calls
        self._draining = draining
        self._most = most
        self._waiting = 0

    async def for_end(self, call: HttpRequest, view: RequestView, caller: Caller) -> Waited:
        """
        Wait as long as the call prefers for the end of the request in `view`, and see how it stands then.

        Who may not read is told nothing of what steps have put out. Raises ClientDisconnect when its caller
        went away meanwhile. Where MongoDB does not answer in the end, or the caller's key opens this no more,
        what was known before is told.
        """
        waited = await self._for_end(call, view, caller)
        if access_of(call).may_read:
            return waited
        return replace(waited, view=waited.view.without_results())

    async def _for_end(self, call: HttpRequest, view: RequestView, caller: Caller) -> Waited:
        preferred = read_wait(call.headers)
        if preferred is None:
            return Waited(view=view, preferred=False, headers={})
        if view.status.ended:
            return Waited(view=view, preferred=True, headers=applied_wait(preferred))
        if self._draining.is_set() or self._waiting >= self._most:
            return Waited(view=view, preferred=True, headers={})
        is_over = await self._wait(call, view.request.id, caller.organization_id, preferred)
        if await _may_look(call):
            view = await self._look_again(view, caller)
        return Waited(view=view, preferred=True, headers=applied_wait(preferred) if is_over else {})

    async def _wait(self, call: HttpRequest, request_id: str, organization_id: str, limit: timedelta) -> bool:
        """Whether it is over with the request or with the time; no, where we stop."""
        self._waiting += 1
        waiting = asyncio.create_task(
            self._requests.wait(request_id, organization_id=organization_id, limit=limit)
        )
        gone = asyncio.create_task(wait_until_gone(call.receive))
        stopping = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({waiting, gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ClientDisconnect
            return waiting.done() and _ended_well(waiting)
        finally:
            self._waiting -= 1
            for task in (waiting, gone, stopping):
                task.cancel()
            await asyncio.gather(waiting, gone, stopping, return_exceptions=True)

    async def _look_again(self, view: RequestView, caller: Caller) -> RequestView:
        late = StoreUnavailable("reading a request took longer than its caller can wait")
        reading = self._requests.get(view.request.id, organization_id=caller.organization_id)
        try:
            return await self._calls.run(reading, late=late)
        except (StoreError, RequestNotFound):
            return view


async def _may_look(call: HttpRequest) -> bool:
    """Whether the call would still be let in, after a wait in which its key may have been revoked."""
    try:
        return await access_of(call).holds()
    except StoreUnavailable:
        return False
    except Exception as error:  # noqa: BLE001 - what was asked for is done, and its caller must be told so
        log = logger.opt(exception=None if isinstance(error, AgentServiceError) else error)
        log.error("a call is told how its request stood, as its key cannot be checked: {}", error)
        return False


def _ended_well(waiting: asyncio.Task[bool]) -> bool:
    """Whether there was no trouble, be it that the request was removed; its caller has seen it before."""
    error = waiting.exception()
    if error is not None and not isinstance(error, AgentServiceError):
        raise error
    return error is None
