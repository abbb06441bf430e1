"""TallyWriter: tells the fleet's counters now and then what this process has counted."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from agent_service.domain.errors import StoreError
from agent_service.store import Store

#: About the time between two tellings, which is what a killed process forgets at most.
EVERY = timedelta(seconds=15)


class TallyWriter:
    """One for each process; an idle process writes nothing."""

    def __init__(self, store: Store) -> None:
        self._counters = store.counters

    async def run(self, stopping: asyncio.Event) -> None:
        """Tell until `stopping` is set, and what is left after that."""
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY.total_seconds() * random.uniform(0.8, 1.2)):
                    await stopping.wait()
            await self._tell()

    async def _tell(self) -> None:
        try:
            await self._counters.tell()
        except StoreError as error:
            logger.debug("what was counted could not be told: {}", error)
        except Exception:
            logger.exception("telling what was counted met something unforeseen")
