"""Scheduler: makes contexts claimable when their time has come."""

import asyncio
import random
from datetime import datetime, timedelta

from loguru import logger

from agent_service.domain.errors import StoreError
from agent_service.store import Store
from agent_service.store.notifier import Notification, Subscription, Topic
from agent_service.telemetry import fail_point

#: The longest sleep: other processes tell what they schedule, and below that there is the rescuer, which
#: wakes this one for whatever should have been promoted.
_LONGEST_SLEEP = timedelta(minutes=5)
_LONGEST_SLEEP_UNNOTIFIED = timedelta(seconds=1)
_AFTER_TROUBLE = timedelta(seconds=3)
#: How far apart processes look, at most, that wait for the same moment.
SPREAD = timedelta(milliseconds=100)
#: A millisecond more than needed: MongoDB's dates have no finer steps.
_FINEST = timedelta(milliseconds=1)
#: How many contexts are promoted at once.
_PAGE = 500


class Scheduler:
    """Sleeps until the next `run_at`, then moves what is due to `pending`; any number of them may run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._alarm = Alarm(store)

    async def run(self, stopping: asyncio.Event) -> None:
        """Promote until `stopping` is set; outlives every trouble of MongoDB."""
        with self._store.notifier.hold(self._alarm) as alarm:
            while not stopping.is_set():
                alarm.reset()
                sleep = await self._promote_due()
                waiter = asyncio.create_task(alarm.wait(sleep))
                stopped = asyncio.create_task(stopping.wait())
                await asyncio.wait((waiter, stopped), return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                stopped.cancel()
                await asyncio.gather(waiter, stopped, return_exceptions=True)

    async def _promote_due(self) -> timedelta:
        """Promote what is due; returns how long there is nothing to do."""
        longest = _LONGEST_SLEEP if self._store.notifier.available else _LONGEST_SLEEP_UNNOTIFIED
        longest *= random.uniform(0.8, 1.2)
        try:
            # Where another process was faster, nothing is due any more, and this question was the only one.
            next_run_at = await self._store.schedule.next_run_at()
            if next_run_at is None:
                return longest
            if next_run_at > self._store.clock.now():
                self._alarm.expect(next_run_at)
                return min(longest, self._alarm.due_in(next_run_at))
            while await self._promote() == _PAGE:
                continue
            return timedelta(0)
        except StoreError as error:
            logger.warning("cannot look for due work now: {}", error)
            return _AFTER_TROUBLE * random.uniform(0.8, 1.2)
        except Exception:
            logger.exception("the scheduler met something unforeseen and goes on")
            return _AFTER_TROUBLE * random.uniform(0.8, 1.2)

    async def _promote(self) -> int:
        fail_point.reach("promote.before")
        promoted = await self._store.schedule.promote(self._store.clock.now(), limit=_PAGE)
        if promoted:
            fail_point.reach("promote.done")
        return promoted


class Alarm(Subscription):
    """
    The subscription of one scheduler: wakes it when something is due.

    Notifications say when that is, so that what is scheduled costs no process a question before it is due.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(Topic.SCHEDULE)
        self._store = store
        #: The first moment that is known at which something is due.
        self._first: datetime | None = None

    def receive(self, notification: Notification) -> None:
        """Something was scheduled: wake when it is due, or at once where nobody knows when that is."""
        run_at = notification.run_at
        if run_at is None or not self.matches(notification):
            super().receive(notification)
        elif self._first is None or run_at < self._first:
            self._first = run_at
            self.wake_after(self.due_in(run_at).total_seconds(), about=Topic.SCHEDULE)

    def reset(self) -> None:
        """Nothing is known; the stored schedule is about to be read."""
        self.cancel_all()
        self._first = None

    def expect(self, run_at: datetime) -> None:
        """Something stored is due then, and nothing stored is before."""
        self._first = run_at if self._first is None else min(self._first, run_at)

    def due_in(self, run_at: datetime) -> timedelta:
        """How long until it is due; where other processes wait for the same, some of them wait longer."""
        due_in = run_at - self._store.clock.now() + _FINEST
        if not self._store.roster.alone:
            due_in += SPREAD * random.random()
        return max(due_in, timedelta(0))
