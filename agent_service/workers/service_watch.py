"""ServiceWatch: keeps a worker's view of its service and the fleet's view of the worker's calls together."""

import asyncio
import math
import random
from contextlib import suppress
from datetime import datetime, timedelta

from loguru import logger

from agent_service.domain.call_result import CallResult
from agent_service.domain.errors import BaseServiceUnavailable, StoreError, StoreUnavailable
from agent_service.domain.retry_policy import hold_for
from agent_service.domain.service_state import (
    RAMP,
    RETRY_AFTER,
    SETTLING,
    BreakerState,
    Hold,
    closed,
    opened,
    why_broken,
)
from agent_service.domain.verdict import describe
from agent_service.store import Store
from agent_service.store.notifier import Subscription, Topic
from agent_service.workers.service_view import ServiceView
from agent_service.workers.worker_settings import LONGEST_POLL_UNNOTIFIED

#: The net below notifications: changes are rare, and an idle fleet should read as seldom as it can.
_SHORTEST_POLL = timedelta(seconds=60)
#: The fleet is told of calls no more often than this.
_BETWEEN_REPORTS = timedelta(seconds=1)
#: A hold may be longer than was asked for by a tenth, and by this at most.
_LONGEST_JITTER = timedelta(seconds=5)
#: How long an attempt waits until the hold that its service asked for is written.
_HOLD_LIMIT = timedelta(seconds=4)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=0.5), timedelta(seconds=15)


class ServiceWatch:
    """Reads the state when notified, writes holds, reports calls once one failed, opens the breaker."""

    def __init__(self, store: Store, view: ServiceView, *, poll_interval: timedelta) -> None:
        self._store = store
        self._view = view
        self._poll_interval = poll_interval
        #: What the last call said that failed and that the fleet was not told of.
        self._last_error = ""
        self._reported_at: datetime | None = None
        #: Set when the hold that was asked for is written, and then replaced by another.
        self._hold_written = asyncio.Event()
        self._subscription: Subscription | None = None
        self._wakes_at: datetime | None = None
        self._stopping = False

    def record(self, result: CallResult, *, epoch: int, error: Exception | None = None) -> None:
        """Count a call; the fleet is told within a second if it, or another one, failed."""
        self._view.tally.add(result, epoch=epoch)
        if result.failure and error is not None:
            self._last_error = describe(error).message
        due = self._report_due()
        if due is not None and (self._wakes_at is None or due < self._wakes_at):
            self._wake(due)

    async def hold(self, error: BaseServiceUnavailable) -> datetime:
        """
        Hold the service for as long as it asked, here at once and in the fleet as soon as it is written.

        Waits for that a short while only: without MongoDB the end of the attempt must not be held up.
        """
        view, now = self._view, self._view.now()
        length = hold_for(error.retry_after or timedelta(0))
        length += min(length / 10, _LONGEST_JITTER) * random.random()
        # MongoDB keeps whole milliseconds.
        until = now + timedelta(milliseconds=math.ceil(length / timedelta(milliseconds=1)))
        written = view.stored.holds.get(RETRY_AFTER)
        if written is not None and written.until is not None and written.until >= until:
            return written.until
        if view.asked is None or view.asked.until is None or view.asked.until < until:
            reason = f"the service asked for it; {describe(error).message}"
            view.asked = Hold(name=RETRY_AFTER, reason=reason, since=now, until=until)
        is_written = self._hold_written
        self.look()
        with suppress(TimeoutError):
            async with asyncio.timeout(_HOLD_LIMIT.total_seconds()):
                await is_written.wait()
        known = view.state().holds.get(RETRY_AFTER)
        return until if known is None or known.until is None else max(until, known.until)

    async def run(self) -> None:
        """Watch until `stop`; outlives every trouble of MongoDB."""
        failures = 0
        with self._store.notifier.subscribe(Topic.SERVICES, self._view.service) as subscription:
            self._subscription = subscription
            while not self._stopping:
                try:
                    await self._attend()
                    failures, pause = 0, self._pause()
                except Exception as error:  # noqa: BLE001 - whatever it is, the worker must go on
                    failures += 1
                    pause = min(_FIRST_PAUSE * 2 ** min(failures, 10), _LONGEST_PAUSE)
                    logger.opt(exception=not isinstance(error, StoreError)).warning(
                        "how the service {} stands is not known: {}", self._view.service, error
                    )
                self._wakes_at = self._view.now() + pause
                await subscription.wait(pause)
            self._subscription = None

    def stop(self) -> None:
        """End `run`."""
        self._stopping = True
        self.look()

    def look(self) -> None:
        """Read the state again at once."""
        self._wake(self._view.now())

    def _wake(self, at: datetime) -> None:
        self._wakes_at = at
        if self._subscription is not None:
            self._subscription.wake()

    async def _attend(self) -> None:
        """One round: write what is to be written, else read; then judge."""
        view = self._view
        async with view.lock:
            if view.asked is not None:
                await self._write_hold(view.asked)
            due = self._report_due()
            if due is not None and due <= view.now():
                await self._report()
            else:
                await view.refresh()
            await self._judge()
            view.tell()

    async def _write_hold(self, asked: Hold) -> None:
        view, until = self._view, asked.until or asked.since
        held = await self._store.services.hold_until(
            view.service, until, reason=asked.reason, now=asked.since
        )
        logger.info("the service {} is held until {:%H:%M:%S} UTC: {}", view.service, until, asked.reason)
        if view.asked is asked:
            view.asked = None
        view.learn(held)
        self._hold_written.set()
        self._hold_written = asyncio.Event()

    async def _report(self) -> None:
        """Tell the fleet of the calls that are counted here."""
        view, now = self._view, self._view.now()
        self._reported_at = now
        epoch = view.stored.epoch
        counts = view.tally.report()
        try:
            told = await self._store.services.count(
                view.service, counts, epoch=epoch, now=now, last_error=self._last_error
            )
        except StoreUnavailable:
            view.tally.not_told()
            raise
        except BaseException:
            # The answer was lost: rather none of them counts than all of them twice.
            view.tally.told()
            raise
        self._last_error = ""
        if told is None:
            # Another epoch has begun, and the tally begins anew with it.
            await view.refresh()
        else:
            view.tally.told()
            view.learn(told)

    async def _judge(self) -> None:
        """Open the breaker if the fleet's calls say so, and close it for good after its ramp."""
        view, now = self._view, self._view.now()
        state = view.stored
        broken = why_broken(state, now)
        if broken is not None and state.window is not None:
            if now < state.window.started_at + SETTLING:
                # What worked elsewhere in the same moment may not be told yet.
                return
            breaker = opened(state, now, broken)
        elif state.breaker.state is BreakerState.RAMPING and now >= (state.breaker.since or now) + RAMP:
            breaker = closed(now)
        else:
            return
        moved = await self._store.services.move(state, breaker)
        if moved is None:
            await view.refresh()
            return
        view.learn(moved)
        if breaker.state is BreakerState.OPEN:
            logger.warning(
                "nobody calls {} until {:%H:%M:%S} UTC: {}", view.service, breaker.until, breaker.reason
            )

    def _report_due(self) -> datetime | None:
        """When the fleet is to be told of the calls counted here; None while there is nothing to tell."""
        view = self._view
        # Asked after every call, and nearly always answered by this.
        if view.stored.window is None and not view.tally.failed:
            return None
        counts, now = view.tally.counts, view.now()
        # Where others had failures, what worked here counts as well.
        telling = view.stored.window is not None and view.stored.window.open(now)
        if not counts.calls or not (counts.failures or telling):
            return None
        if self._reported_at is None or view.suspects():
            return now
        return self._reported_at + _BETWEEN_REPORTS

    def _pause(self) -> timedelta:
        """How long there is nothing to do unless this one is notified."""
        view, now = self._view, self._view.now()
        state = view.stored
        if view.asked is not None:
            return timedelta(0)
        longest = max(self._poll_interval, _SHORTEST_POLL)
        if not self._store.notifier.available:
            longest = min(self._poll_interval, LONGEST_POLL_UNNOTIFIED)
        wakes = [now + longest * random.uniform(0.8, 1.2)]
        due = self._report_due()
        if due is not None:
            wakes.append(due)
        if state.window is not None and why_broken(state, now) is not None:
            wakes.append(state.window.started_at + SETTLING)
        if state.breaker.state is BreakerState.RAMPING:
            wakes.append((state.breaker.since or now) + RAMP + timedelta(seconds=random.random()))
        return max(min(wakes) - now, timedelta(0))
