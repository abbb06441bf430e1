"""LeaseKeeper: renews the leases of attempts that are alive, and hears what to stop (DESIGN §4 rule 3)."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreError
from agent_service.workers.held_lease import HeldLease


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLease:
    """A lease to renew, and what to do when its request is to be cancelled."""

    lease: HeldLease
    on_cancel: Callable[[], None]


class LeaseKeeper:
    """Renews every lease that is held three times in its length, in one round of two operations."""

    def __init__(self, contexts: ContextManager, *, lease: timedelta) -> None:
        self._contexts = contexts
        self._length = lease
        self._kept: dict[str, KeptLease] = {}
        self._stopping = asyncio.Event()

    def keep(self, kept: KeptLease) -> None:
        """Renew this lease from now on."""
        self._kept[kept.lease.context_id] = kept

    def drop(self, lease: HeldLease) -> None:
        """The attempt has ended; its lease is not renewed any more."""
        lease.let_go()
        kept = self._kept.get(lease.context_id)
        # A newer attempt of the same context may have begun here before this one had ended.
        if kept is not None and kept.lease is lease:
            del self._kept[lease.context_id]

    async def run(self) -> None:
        """Renew until `stop`; it must go on until the last attempt has ended."""
        while not self._stopping.is_set():
            pause = self._length.total_seconds() / 3 * random.uniform(0.8, 1.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            if self._kept and not self._stopping.is_set():
                await self._renew_carefully()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    async def renew(self) -> None:
        """
        Renew all, and act on what is read back: a lease that is gone is lost, a cancellation is passed on.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        asked = {context_id: kept.lease.token for context_id, kept in self._kept.items()}
        sent = time.monotonic()
        states = await self._contexts.renew(asked, self._length)
        for context_id, token in asked.items():
            kept = self._kept.get(context_id)
            # An attempt that ended meanwhile, or a newer one of the same context, is not concerned.
            if kept is None or kept.lease.token != token:
                continue
            state = states.get(context_id)
            if state is None or state.token != token:
                kept.lease.lose()
                continue
            kept.lease.extend(sent + self._length.total_seconds())
            if state.cancel_requested:
                kept.on_cancel()

    async def _renew_carefully(self) -> None:
        try:
            await self.renew()
            await self._contexts.store.measure_clock()
        except StoreError as error:
            logger.warning("leases could not be renewed: {}", error)
        except Exception:
            logger.exception("the lease keeper met something unforeseen and goes on")
