"""PlannedMarks: says in the background that requests are planned, of many at once (protocol, rule 7)."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import islice

from loguru import logger

from agent_service.concurrency import Supervisor
from agent_service.domain.errors import StoreError
from agent_service.store.requests import RequestCollection
from agent_service.telemetry import fail_point

_EVERY = timedelta(milliseconds=500)
#: Ids in one command.
_MOST = 10_000


class PlannedMarks:
    """Requests of which a majority has all contexts; the rescuer says it of those that are lost here."""

    def __init__(self, requests: RequestCollection, supervisor: Supervisor) -> None:
        self._requests = requests
        self._supervisor = supervisor
        # In the order in which they were planned.
        self._ids: dict[str, None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def add(self, request_ids: Iterable[str]) -> None:
        """Say it of these soon."""
        self._ids.update(dict.fromkeys(request_ids))
        if self._writing is None or self._writing.done():
            self._writing = self._supervisor.background("saying what is planned", self._write())

    async def flush(self) -> None:
        """Say at once what is left to be said."""
        self._hurry.set()
        if self._writing is not None:
            await asyncio.wait({self._writing})
        self._hurry.clear()

    async def _write(self) -> None:
        while self._ids:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY.total_seconds()):
                    await self._hurry.wait()
            ids = list(islice(self._ids, _MOST))
            for each in ids:
                del self._ids[each]
            try:
                await self._requests.mark_planned(ids)
            except StoreError as error:
                logger.debug("what is planned could not be said, and the rescuer will: {}", error)
            fail_point.reach("request.planned")
