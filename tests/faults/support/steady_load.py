"""steady_load: clients who submit one request after the other while something breaks."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from tests.faults.support.fleet import Fleet
from tests.support.waiting import until

#: Between an acknowledgement and the next submission of the same client.
_PAUSE = timedelta(milliseconds=200)


class SteadyLoad:
    """What `steady_load` gives."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def go_on(self, count: int = 5) -> None:
        """Until so many more requests were acknowledged from now on."""
        wanted = len(self._fleet.acknowledged) + count
        await until(lambda: len(self._fleet.acknowledged) >= wanted, seconds=60)


@asynccontextmanager
async def steady_load(
    fleet: Fleet, *bodies: Mapping[str, Any], clients: int = 2
) -> AsyncIterator[SteadyLoad]:
    """
    While the block runs, each client submits one of `bodies` after the other, each until it is acknowledged.

    When the block ends, all that was begun is acknowledged.
    """
    stopping = asyncio.Event()

    async def submit_on_and_on(client: int) -> None:
        number = client
        while not stopping.is_set():
            await fleet.submit(bodies[number % len(bodies)], key=f"load-{client}-{uuid.uuid4().hex}")
            number += 1
            await asyncio.sleep(_PAUSE.total_seconds())

    async with asyncio.TaskGroup() as group:
        for client in range(clients):
            group.create_task(submit_on_and_on(client))
        try:
            yield SteadyLoad(fleet)
        finally:
            stopping.set()
