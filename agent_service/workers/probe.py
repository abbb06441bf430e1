"""Probe: the right of one worker to try a service that nobody else may call (protocol, rule 12)."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from agent_service.domain.errors import StoreError
from agent_service.domain.service_state import Breaker, ServiceState
from agent_service.store import Store
from agent_service.telemetry import fail_point

#: Seconds between two tries to write how a probe ended, at first.
_PAUSE = 0.2


class Probe:
    """
    A lease like that of a context: renewed while its attempt runs, taken over by anybody when it ends.

    `state` is that of the service since the probe was taken.
    """

    def __init__(
        self, store: Store, state: ServiceState, *, lease: timedelta, on_moved: Callable[[], None]
    ) -> None:
        self.state = state
        self._store = store
        self._length = lease
        self._on_moved = on_moved
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self) -> None:
        """Renew it until it is ended."""
        self._begin("probe", self._renew())

    def end(self, breaker: Breaker) -> None:
        """Put this breaker in the place of the probe, unless somebody has taken it over; the first counts."""
        if not self._over.is_set():
            self._over.set()
            self._begin("breaker", self._move(breaker))

    @property
    def done(self) -> bool:
        """Whether it has ended and nothing more is written."""
        return self._over.is_set() and all(task.done() for task in self._tasks)

    async def ended(self) -> None:
        """Wait until nothing more is written."""
        self._over.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._store.supervisor.background(f"{self.state.service} {name}", work))

    async def _renew(self) -> None:
        lease = self.state.breaker.probe
        while lease is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._length.total_seconds() / 3):
                    await self._over.wait()
            if self._over.is_set():
                return
            renewed = replace(lease, expires_at=self._now() + self._length)
            try:
                if not await self._store.services.renew_probe(self.state, renewed):
                    logger.warning("the probe of {} went to another worker", self.state.service)
                    return
            except StoreError as error:
                logger.warning("the probe of {} could not be renewed: {}", self.state.service, error)

    async def _move(self, breaker: Breaker) -> None:
        """Write how it ended, for as long as nobody else can have taken it over."""
        until, pause = self._now() + self._length, _PAUSE
        while self._now() < until:
            try:
                fail_point.reach("probe.ending")
                moved = await self._store.services.move(self.state, breaker)
                fail_point.reach("probe.ended")
            except StoreError as error:
                logger.warning("the breaker of {} could not be moved: {}", self.state.service, error)
                await asyncio.sleep(pause)
                pause *= 2
                continue
            if moved is not None:
                logger.info("the breaker of {} is {}", moved.service, moved.breaker.state.value)
            # Otherwise it was taken over, or the answer was lost of a move that was made.
            break
        self._on_moved()

    def _now(self) -> datetime:
        return self._store.clock.now()
