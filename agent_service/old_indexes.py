"""OldIndexes: drops the indexes of older versions once no worker of one has been seen for an hour."""

import asyncio
import random
import time
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from agent_service.domain.errors import StoreError
from agent_service.store import Store
from agent_service.store.workers import BY_LINES, SILENT_AFTER

#: How often it looks, and for how long it must have seen no older worker.
_EVERY, _UNSEEN = timedelta(minutes=10), timedelta(hours=1)


class OldIndexes:
    """Looks now and then who works; what nobody needs any more only costs every write."""

    def __init__(self, store: Store, *, every: timedelta = _EVERY, unseen: timedelta = _UNSEEN) -> None:
        self._store = store
        self._every, self._unseen = every, unseen
        #: Since when (monotonic seconds) no older worker was seen; None while one is.
        self._unseen_since: float | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until `stopping` is set; trouble of MongoDB only delays it."""
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every.total_seconds() * random.uniform(0.8, 1.2)):
                    await stopping.wait()
            if not stopping.is_set():
                await self._look()

    async def _look(self) -> None:
        try:
            old = await self._store.old_indexes()
            if not old or not await self._unneeded():
                return
            await self._store.drop_old_indexes()
        except StoreError as error:
            logger.debug("the indexes of older versions could not be looked at: {}", error)
        except Exception:
            logger.exception("the look at old indexes met something unforeseen")
        else:
            names = ", ".join(index.name for index in old)
            logger.info("no older version works any more, so its indexes are dropped: {}", names)

    async def _unneeded(self) -> bool:
        """Whether no worker has been seen for long enough that claims as older versions do."""
        seen = await self._store.workers.seen_since(self._store.clock.now() - SILENT_AFTER)
        if any(worker.claims_by != BY_LINES for worker in seen):
            self._unseen_since = None
            return False
        if self._unseen_since is None:
            self._unseen_since = time.monotonic()
        return time.monotonic() - self._unseen_since >= self._unseen.total_seconds()
