"""A reader of a request's events who hangs up now and then, and always comes back with its cursor."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from agent_service.client import AgentClient, RequestEvent
from agent_service.domain.errors import BaseServiceUnavailable
from tests.faults.support.history import Reading, Seen

_PAUSE_SECONDS = 0.2
_ENDS = frozenset({"request.completed", "request.failed", "request.cancelled"})


async def read_to_the_end(
    any_client: Callable[[], AgentClient], request_id: str, *, hangs_up_after: int | None
) -> tuple[Reading, int]:
    """
    What the reader was shown until the request had ended, and how often it came back.

    It may read from another API each time. `hangs_up_after` so many events of a connection it comes back.
    """
    seen: list[Seen] = []
    cursor: str | None = None
    came_back = -1
    while not seen or seen[-1].type not in _ENDS:
        came_back += 1
        if came_back:
            await asyncio.sleep(_PAUSE_SECONDS)
        left = hangs_up_after
        try:
            async with aclosing(any_client().stream(request_id, after=cursor)) as events:
                async for event in events:
                    cursor = event.id
                    seen.append(_seen(event))
                    left = None if left is None else left - 1
                    if left == 0:
                        break
        except BaseServiceUnavailable:
            continue
    return Reading(request_id=request_id, events=tuple(seen)), came_back


def _seen(event: RequestEvent) -> Seen:
    return Seen(type=event.type, step=event.step, attempt=event.attempt, seq=event.seq)
