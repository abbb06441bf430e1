"""DroppingReader: a reader of events that loses its connection at every single event."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx2

from tests.faults.support.fleet import Fleet
from tests.faults.support.history import Reading, Seen
from tests.support.event_streams import SentEvent, read_stream
from tests.support.waiting import until

#: Seconds before it tries again after a refusal or a connection that broke by itself.
_PAUSE = 0.1
#: A stream pings every 15 s, so one that is silent for longer is broken.
_SILENCE_LIMIT = 30.0


class DroppingReader:
    """
    Reads one event, drops the connection, and goes on after it at the next API process that runs.

    `broken` counts connections that ended without an event, and tries that were refused.
    """

    def __init__(self, fleet: Fleet, request_id: str) -> None:
        self._fleet = fleet
        self._request_id = request_id
        self.events: list[SentEvent] = []
        self.broken = 0

    def deltas(self, attempt: int) -> list[str]:
        """What it was shown of an attempt."""
        return [
            str(event.data["delta"])
            for event in self.events
            if event.type == "output.delta" and event.data["attempt"] == attempt
        ]

    @property
    def newest_attempt(self) -> int:
        """The last attempt that it was shown the beginning of; 0 before the first."""
        return max(
            (event.data["attempt"] for event in self.events if event.type == "step.running"), default=0
        )

    @property
    def reading(self) -> Reading:
        """What it was shown, for the checker."""
        return Reading(
            request_id=self._request_id,
            events=tuple(
                Seen(
                    type=event.type,
                    step=event.data.get("step"),
                    attempt=event.data.get("attempt"),
                    seq=event.data.get("seq"),
                )
                for event in self.events
            ),
        )

    async def has_seen(self, deltas: int, *, attempt: int) -> None:
        """Wait until it was shown so many pieces of this attempt or of a later one."""
        await until(
            lambda: self.newest_attempt >= attempt and len(self.deltas(self.newest_attempt)) >= deltas,
            seconds=90,
        )

    async def read_to_end(self) -> None:
        """Go on until the API says that there is no more."""
        limits = httpx2.Timeout(_SILENCE_LIMIT)
        async with httpx2.AsyncClient(timeout=limits, trust_env=False) as client:
            for turn in itertools.count():
                try:
                    if not await self._read_one(client, turn):
                        return
                except httpx2.TransportError:
                    await self._come_back()

    async def _read_one(self, client: httpx2.AsyncClient, turn: int) -> bool:
        """Read the next event, if one comes; False if there will be none."""
        running = [each for each in self._fleet.processes if each.role == "api" and each.is_running]
        address = f"{running[turn % len(running)].url}/v1/requests/{self._request_id}/events"
        headers = {"Last-Event-ID": self.events[-1].id} if self.events else {}
        async with client.stream("GET", address, headers=headers) as response:
            if response.status_code == 200:
                async with aclosing(read_stream(response)) as events:
                    event = await anext(events, None)
                if event is not None and event.type != "server.draining":
                    self.events.append(event)
                    return True
            elif response.status_code == 204:
                return False
            else:
                assert response.status_code >= 500, await response.aread()
        await self._come_back()
        return True

    async def _come_back(self) -> None:
        self.broken += 1
        await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def dropping_reader(fleet: Fleet, request_id: str) -> AsyncIterator[DroppingReader]:
    """Such a reader beside the block, at the end of which it has read to the end."""
    reader = DroppingReader(fleet, request_id)
    reading = asyncio.create_task(reader.read_to_end())
    try:
        yield reader
        async with asyncio.timeout(120):
            await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
