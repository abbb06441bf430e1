"""Event streams as clients read them, with the parser of httpx2."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEvent:
    """One event as it was sent; `id` is the cursor behind it."""

    type: str
    id: str
    data: dict[str, Any]


async def read_stream(response: httpx2.Response) -> AsyncGenerator[SentEvent, None]:
    """The events of an open answer."""
    async for sent in httpx2.EventSource(response, max_event_size=None):
        if sent.data:
            yield SentEvent(type=sent.event, id=sent.id, data=json.loads(sent.data))
