"""ServiceView: what one worker knows of its service: what is stored, and what its own calls showed since."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from agent_service.domain.service_state import RETRY_AFTER, Hold, ServiceState, Window, why_broken
from agent_service.store import Store
from agent_service.workers.call_tally import CallTally


class ServiceView:
    """
    The last state that was read, with the hold and the calls that are not written yet.

    `on_change` is called when it may be answered anew whether the service may be called. Whoever reads or
    writes the stored state holds `lock`, so that nothing older is learnt last.
    """

    def __init__(self, store: Store, service: str, *, on_change: Callable[[], None]) -> None:
        self.service = service
        self.lock = asyncio.Lock()
        self.tally = CallTally()
        #: The hold that the service asked for and that is not written yet.
        self.asked: Hold | None = None
        #: Whether anything was read yet.
        self.loaded = False
        self.stored = ServiceState(service=service)
        self._store = store
        self._on_change = on_change
        self._told: object = None

    def now(self) -> datetime:
        """The server's time."""
        return self._store.clock.now()

    async def refresh(self) -> None:
        """Read the state; the caller holds the lock. Raises `StoreUnavailable`."""
        self.learn(await self._store.services.read(self.service))

    def learn(self, state: ServiceState) -> None:
        """The state was read, or is what was just written."""
        self.stored, self.loaded = state, True
        self.tally.enter(state.epoch)
        self.tell()

    def tell(self) -> None:
        """Call `on_change` if anything that matters is not as it was when it was last called."""
        state = self.stored
        matters = (state.epoch, state.breaker, dict(state.holds), self.suspects())
        if matters != self._told:
            self._told = matters
            self._on_change()

    def state(self) -> ServiceState:
        """The state, with the hold that is not written yet."""
        written = self.stored.holds.get(RETRY_AFTER)
        if self.asked is None or _end_of(written, self.asked) == written:
            return self.stored
        return replace(self.stored, holds={**self.stored.holds, RETRY_AFTER: self.asked})

    def suspects(self) -> bool:
        """Whether the breaker would open if these calls were all; then nobody else should begin here."""
        known = self.stored.window
        # Asked before every call, and nearly always answered by this.
        if not self.tally.failed and (known is None or not known.counts.failures):
            return False
        now = self.now()
        started_at = known.started_at if known is not None and known.open(now) else now
        window = Window(started_at=started_at, counts=self.stored.counted(now) + self.tally.untold)
        return why_broken(replace(self.stored, window=window), now) is not None


def _end_of(one: Hold | None, other: Hold) -> Hold:
    """The one of two holds that ends later."""
    if one is None:
        return other
    if one.until is None or other.until is None:
        return one if one.until is None else other
    return one if one.until >= other.until else other
