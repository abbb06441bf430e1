"""Scheduler: makes contexts claimable when their time has come."""

import asyncio
import random
from datetime import timedelta

from loguru import logger

from agent_service.domain.errors import StoreError
from agent_service.store import Store
from agent_service.store.doorbell import Topic
from agent_service.telemetry import fail_point

#: The longest sleep: what other processes schedule rings the bell, and this is the net below it.
_LONGEST_SLEEP = timedelta(seconds=30)
_LONGEST_SLEEP_WITHOUT_BELL = timedelta(seconds=1)
_AFTER_TROUBLE = timedelta(seconds=3)
#: How many contexts are promoted at once.
_PAGE = 500


class Scheduler:
    """Sleeps until the next `run_at`, then moves what is due to `pending`; any number of them may run."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, stopping: asyncio.Event) -> None:
        """Promote until `stopping` is set; outlives every trouble of MongoDB."""
        with self._store.doorbell.listen(Topic.SCHEDULE) as bell:
            while not stopping.is_set():
                sleep = await self._promote_due()
                waiter = asyncio.create_task(bell.wait(sleep))
                stopped = asyncio.create_task(stopping.wait())
                await asyncio.wait((waiter, stopped), return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                stopped.cancel()
                await asyncio.gather(waiter, stopped, return_exceptions=True)

    async def _promote_due(self) -> timedelta:
        """Promote what is due; returns how long there is nothing to do."""
        longest = _LONGEST_SLEEP if self._store.doorbell.available else _LONGEST_SLEEP_WITHOUT_BELL
        longest *= random.uniform(0.8, 1.2)
        try:
            while await self._promote() == _PAGE:
                continue
            next_run_at = await self._store.schedule.next_run_at()
        except StoreError as error:
            logger.warning("cannot look for due work now: {}", error)
            return _AFTER_TROUBLE * random.uniform(0.8, 1.2)
        except Exception:
            logger.exception("the scheduler met something unforeseen and goes on")
            return _AFTER_TROUBLE * random.uniform(0.8, 1.2)
        if next_run_at is None:
            return longest
        # A millisecond more than needed: MongoDB's dates have no finer steps.
        due_in = next_run_at - self._store.clock.now() + timedelta(milliseconds=1)
        return min(longest, max(due_in, timedelta(0)))

    async def _promote(self) -> int:
        fail_point.reach("promote.before")
        promoted = await self._store.schedule.promote(self._store.clock.now(), limit=_PAGE)
        if promoted:
            fail_point.reach("promote.done")
        if promoted and not self._store.doorbell.available:
            self._store.doorbell.ring(Topic.WORK)
        return promoted
