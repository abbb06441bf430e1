"""What a stub that records has seen: when calls came, and when their connections were closed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp

from benchmarks.backlog import STEP

_LOOK_SECONDS = 0.05
_LIMIT_SECONDS = 60


class StubRecord:
    """Request id → monotonic seconds, on the clock that all processes of a machine share."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url
        self.received: dict[str, float] = {}
        self.closed: dict[str, float] = {}

    async def wait_for_calls(self, request_ids: Collection[str]) -> None:
        """Wait until a call of each of these has come. Raises TimeoutError."""
        await self._wait_for(self.received, request_ids)

    async def wait_for_closed(self, request_ids: Collection[str]) -> None:
        """Wait until the connections of their calls were closed without an answer. Raises TimeoutError."""
        await self._wait_for(self.closed, request_ids)

    async def _wait_for(self, seen: Mapping[str, float], request_ids: Collection[str]) -> None:
        deadline = monotonic() + _LIMIT_SECONDS
        while not all(request_id in seen for request_id in request_ids):
            if monotonic() > deadline:
                raise TimeoutError("a call did not come or did not end")
            await asyncio.sleep(_LOOK_SECONDS)
            async with self._session.get(self._base_url) as answer:
                told: Mapping[str, Mapping[str, float]] = await answer.json(content_type=None)
            self.received |= _by_request(told["received"])
            self.closed |= _by_request(told["closed"])


@asynccontextmanager
async def read_record(base_url: str) -> AsyncIterator[StubRecord]:
    """The record of the stub at this address, which must have been started with `--record`."""
    async with aiohttp.ClientSession() as session:
        yield StubRecord(session, base_url)


def _by_request(times: Mapping[str, float]) -> dict[str, float]:
    return {context_id.removesuffix(f".{STEP}"): at for context_id, at in times.items()}
