"""LeaseKeeper: renews the leases of attempts that are alive, and hears what to stop (protocol, rule 3)."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

from loguru import logger

from agent_service.concurrency import run_together
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreError
from agent_service.store.leases import LeaseState
from agent_service.store.notifier import Subscription, Topic
from agent_service.store.stored_fields import request_id_in
from agent_service.telemetry import fail_point
from agent_service.workers.held_lease import HeldLease
from agent_service.workers.stop_signal import StopReason

#: How many renewals there are in the length of a lease, and how many where the last one failed.
_NORMALLY, _AFTER_FAILURE = 3, 8


class KeptLease(NamedTuple):
    """A lease to renew, and what to do when its attempt shall stop."""

    lease: HeldLease
    on_stop: Callable[[StopReason], None]


class LeaseKeeper:
    """
    Renews every lease that is held three times in its length, in one round of two operations; sooner where
    one failed.

    What shall stop is heard by notification at once, and with the next renewal at the latest.
    """

    def __init__(self, contexts: ContextManager, *, lease: timedelta) -> None:
        self._contexts = contexts
        self._length = lease
        self._kept: dict[str, KeptLease] = {}
        self._stopping = asyncio.Event()
        #: Whether `run` was started before.
        self._begun = False
        self._subscription: Subscription | None = None
        #: When (monotonic seconds) the last notification came, for whichever request.
        self._notified_at = -math.inf
        #: Set when one may have come for a context before anybody here knew of that.
        self._late = asyncio.Event()

    def keep(self, kept: KeptLease) -> None:
        """Renew this lease from now on."""
        self._kept[kept.lease.context_id] = kept
        # It may have been stopped after its claim was sent and before anybody here knew of it.
        if kept.lease.ends - self._length.total_seconds() <= self._notified_at:
            self._late.set()

    def drop(self, lease: HeldLease) -> None:
        """The attempt has ended; its lease is not renewed any more."""
        lease.let_go()
        kept = self._kept.get(lease.context_id)
        # A newer attempt of the same context may have begun here before this one had ended.
        if kept is not None and kept.lease is lease:
            del self._kept[lease.context_id]

    async def run(self) -> None:
        """
        Renew, and hear what shall stop, until `stop`; it must go on until the last attempt has ended.

        Started again after a failure it renews at once what is held.
        """
        if self._begun and self._kept:
            await self._carefully(self._renew_and_measure)
        self._begun = True
        await run_together(self._renew_regularly(), self._hear_stops(), self._look_again())

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()
        self._late.set()
        if self._subscription is not None:
            self._subscription.wake()

    async def _renew_regularly(self) -> None:
        answered = True
        while not self._stopping.is_set():
            # An election fails every renewal that is on its way; the lease must outlive the next one too.
            part = _NORMALLY if answered else _AFTER_FAILURE
            pause = self._length.total_seconds() / part * random.uniform(0.8, 1.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            if self._kept and not self._stopping.is_set():
                answered = await self._carefully(self._renew_and_measure)

    async def _hear_stops(self) -> None:
        with self._contexts.store.notifier.subscribe(Topic.STOP, concerns=self._holds) as subscription:
            self._subscription = subscription
            while not self._stopping.is_set():
                if await subscription.wait(self._length):
                    self._notified_at = time.monotonic()
                    if self._kept and not self._stopping.is_set():
                        await self._carefully(self.look)
            self._subscription = None

    async def _look_again(self) -> None:
        while not self._stopping.is_set():
            await self._late.wait()
            self._late.clear()
            if self._kept and not self._stopping.is_set():
                await self._carefully(self.look)

    def _holds(self, request_id: str | None) -> bool:
        """Whether a context of the request runs here; nobody else asks MongoDB what was to stop."""
        self._notified_at = time.monotonic()
        return request_id is None or any(request_id_in(each) == request_id for each in self._kept)

    async def renew(self) -> None:
        """
        Renew all, and act on what is read back: a lease that is gone is lost, a stop is passed on.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        asked = self._tokens()
        sent = time.monotonic()
        fail_point.reach("renew.sending")
        states = await self._contexts.renew(asked, self._length)
        fail_point.reach("renew.answered")
        self._act(asked, states, renewed_until=sent + self._length.total_seconds())

    async def look(self) -> None:
        """Like `renew`, and renews nothing. Raises `StoreUnavailable`."""
        asked = self._tokens()
        self._act(asked, await self._contexts.leases(list(asked), self._length))

    def _tokens(self) -> dict[str, str]:
        return {context_id: kept.lease.token for context_id, kept in self._kept.items()}

    def _act(
        self,
        asked: Mapping[str, str],
        states: Mapping[str, LeaseState],
        *,
        renewed_until: float | None = None,
    ) -> None:
        for context_id, token in asked.items():
            kept = self._kept.get(context_id)
            # An attempt that ended meanwhile, or a newer one of the same context, is not concerned.
            if kept is None or kept.lease.token != token:
                continue
            state = states.get(context_id)
            if state is None or state.token != token:
                kept.lease.lose()
                continue
            if renewed_until is not None:
                kept.lease.extend(renewed_until)
            if state.cancel_requested:
                kept.on_stop(StopReason.CANCELLED)
            elif state.deadline_passed:
                kept.on_stop(StopReason.DEADLINE)

    async def _renew_and_measure(self) -> None:
        await self.renew()
        await self._contexts.store.measure_clock()

    async def _carefully(self, duty: Callable[[], Awaitable[None]]) -> bool:
        """Do it; says whether it went well."""
        try:
            await duty()
        except StoreError as error:
            logger.warning("leases could not be looked after: {}", error)
        except Exception:
            logger.exception("the lease keeper met something unforeseen and goes on")
        else:
            return True
        return False
