"""follow: a reader of a request's event stream who comes back whenever the stream breaks."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from agent_service.client import AgentClient, RequestEvent
from agent_service.domain.errors import AgentServiceError, RequestNotFound
from tests.faults.support.history import Reading, Seen

#: Seconds before a broken stream is opened again.
_PAUSE = 0.2
_LIMIT = 120.0
_ENDS = frozenset({"request.completed", "request.failed", "request.cancelled"})


async def follow(api_url: Callable[[], str], request_id: str) -> Reading:
    """
    All that the reader was shown, reconnections with its cursor included, once the request has ended.

    `api_url` gives the address of an API that runs now; AssertionError if there is none is a broken stream.
    """
    seen: list[Seen] = []
    cursor: str | None = None
    async with asyncio.timeout(_LIMIT):
        while True:
            try:
                # Not this client is to come back, but its user: to whatever API there is then.
                async with AgentClient(api_url(), following_patience=timedelta(0)) as client:
                    async for event in client.stream(request_id, after=cursor):
                        cursor = event.id
                        seen.append(_seen(event))
                        if event.type in _ENDS:
                            return Reading(request_id=request_id, events=tuple(seen))
            except RequestNotFound:
                raise
            except (AgentServiceError, LookupError):
                await asyncio.sleep(_PAUSE)


def _seen(event: RequestEvent) -> Seen:
    return Seen(type=event.type, step=event.step, attempt=event.attempt, seq=event.seq)
