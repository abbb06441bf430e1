"""ClaimLoop: claims for one worker whenever it has room, and sleeps until the bell rings otherwise."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import StoreError
from agent_service.store.doorbell import Bell, Topic
from agent_service.workers.attempts import Attempts
from agent_service.workers.claimer import Claimer, jittered
from agent_service.workers.execution import Execution
from agent_service.workers.worker_settings import LONGEST_POLL_WITHOUT_BELL, WorkerSettings

#: The pause after MongoDB did not answer, at most.
_LONGEST_PAUSE = timedelta(seconds=15)


class ClaimLoop:
    """Fills the free slots of one worker; `new_execution` makes an attempt of a claimed context."""

    def __init__(
        self,
        contexts: ContextManager,
        *,
        service: str,
        queues: tuple[str, ...],
        worker_id: str,
        settings: WorkerSettings,
        attempts: Attempts,
        new_execution: Callable[[Context, float], Execution],
    ) -> None:
        self._contexts = contexts
        self._service = service
        self._settings = settings
        self._attempts = attempts
        self._new_execution = new_execution
        self._claimer = Claimer(
            contexts, service=service, queues=queues, worker_id=worker_id, lease=settings.lease
        )
        self._stopping = asyncio.Event()
        self._bell: Bell | None = None
        #: Whether the last claim found something.
        self._found_work = False

    def wake(self) -> None:
        """Look again at once: a slot is free, or the worker stops."""
        if self._bell is not None:
            self._bell.ring()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim until `stopping` is set; outlives every trouble of MongoDB."""
        self._stopping = stopping
        failures = 0
        with self._contexts.store.doorbell.listen(Topic.WORK, self._service) as bell:
            self._bell = bell
            while not stopping.is_set():
                try:
                    pause = await self._claim()
                    failures = 0
                except StoreError as error:
                    failures += 1
                    pause = min(timedelta(seconds=0.5 * 2 ** min(failures, 10)), _LONGEST_PAUSE)
                    logger.warning("the {} worker cannot claim: {}", self._service, error)
                except Exception:
                    failures += 1
                    pause = _LONGEST_PAUSE
                    logger.exception("the {} worker met something unforeseen and goes on", self._service)
                if pause > timedelta(0) and not stopping.is_set():
                    await bell.wait(jittered(pause))
            self._bell = None
        await self._hand_back_unknown()

    async def _claim(self) -> timedelta:
        """Claim what can start now and start it; returns how long to wait unless the bell rings."""
        free = self._settings.concurrency - len(self._attempts)
        if free <= 0:
            return self._poll_interval()
        # A trickle is claimed one by one, in one round trip; where there was one there may be more.
        limit = min(free, self._settings.batch_size) if self._found_work else 1
        claimed = await self._claimer.claim(limit)
        self._found_work = bool(claimed.contexts)
        if self._stopping.is_set():
            await self._contexts.hand_back(claimed.contexts)
        else:
            for context in claimed.contexts:
                self._attempts.begin(self._new_execution(context, claimed.lease_ends))
        return timedelta(0) if self._found_work else self._poll_interval()

    async def _hand_back_unknown(self) -> None:
        try:
            await self._claimer.hand_back_unknown()
        except Exception as error:  # noqa: BLE001 - what is not handed back comes back when its lease ends
            logger.warning("a claim whose answer was lost is left to its lease: {}", error)

    def _poll_interval(self) -> timedelta:
        if self._contexts.store.doorbell.available:
            return self._settings.poll_interval
        return min(self._settings.poll_interval, LONGEST_POLL_WITHOUT_BELL)
