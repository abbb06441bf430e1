"""ClaimLoop: claims for one worker whenever it has room, and sleeps until the bell rings otherwise."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import StoreError
from agent_service.store.doorbell import Bell, Topic
from agent_service.workers.admission import Admission
from agent_service.workers.attempts import Attempts
from agent_service.workers.claimer import Claimed, Claimer, jittered
from agent_service.workers.execution import Execution
from agent_service.workers.service_gate import Answer, ServiceGate
from agent_service.workers.solitude import is_suspect
from agent_service.workers.worker_settings import LONGEST_POLL_WITHOUT_BELL, WorkerSettings

#: The pause after MongoDB did not answer, at most.
_LONGEST_PAUSE = timedelta(seconds=15)
#: How far apart workers ask again, at most, that wait for the end of the same hold.
_SPREAD = timedelta(milliseconds=200)


class ClaimLoop:
    """
    Fills the free slots of one worker, as far as its gate lets it.

    `new_execution` makes an attempt of a claimed context, the monotonic end of its lease and its admission.
    """

    def __init__(
        self,
        contexts: ContextManager,
        *,
        service: str,
        queues: tuple[str, ...],
        worker_id: str,
        settings: WorkerSettings,
        attempts: Attempts,
        gate: ServiceGate,
        new_execution: Callable[[Context, float, Admission], Execution],
    ) -> None:
        self._contexts = contexts
        self._service = service
        self._settings = settings
        self._attempts = attempts
        self._gate = gate
        self._new_execution = new_execution
        self._claimer = Claimer(
            contexts, service=service, queues=queues, worker_id=worker_id, lease=settings.lease
        )
        self._stopping = asyncio.Event()
        self._bell: Bell | None = None
        #: Whether the last claim found something.
        self._found_work = False
        #: Whether it found one that has to run alone; then there may be more, and each is claimed by itself.
        self._found_suspect = False

    def wake(self) -> None:
        """Look again at once: a slot is free, or the worker stops."""
        if self._bell is not None:
            self._bell.ring()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim until `stopping` is set; outlives every trouble of MongoDB."""
        self._stopping = stopping
        failures = 0
        with (
            self._contexts.store.doorbell.listen(Topic.WORK, self._service) as bell,
            self._attempts.solitude.waking(self.wake),
        ):
            self._bell = bell
            while not stopping.is_set():
                try:
                    pause = await self._claim()
                    failures = 0
                except StoreError as error:
                    failures += 1
                    pause = jittered(min(timedelta(seconds=0.5 * 2 ** min(failures, 10)), _LONGEST_PAUSE))
                    logger.warning("the {} worker cannot claim: {}", self._service, error)
                except Exception:
                    failures += 1
                    pause = jittered(_LONGEST_PAUSE)
                    logger.exception("the {} worker met something unforeseen and goes on", self._service)
                if failures:
                    await self._rest(pause / 2)
                if pause > timedelta(0) and not stopping.is_set():
                    await bell.wait(pause / 2 if failures else pause)
            self._bell = None
        await self._hand_back_unknown()

    async def _rest(self, pause: timedelta) -> None:
        """Wait, whatever rings, or until a stop: what is handed back after trouble rings, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._stopping.wait()

    async def _claim(self) -> timedelta:
        """Claim what can start now and start it; returns how long to wait unless the bell rings."""
        free = self._settings.concurrency - len(self._attempts)
        if free <= 0:
            return self._poll_interval()
        if self._attempts.solitude.wanted:
            # Whoever is alone wakes everybody when it has ended.
            await self._claimer.hand_back_unknown()
            return self._poll_interval()
        # Whoever asks to be alone from here on waits until what is claimed has begun or gone.
        with self._attempts.solitude.claiming():
            answer = await self._gate.ask(len(self._attempts))
            if not answer.may_start:
                await self._claimer.hand_back_unknown()
                return self._until(answer)
            # A trickle is claimed one by one, in one round trip; where there was one there may be more.
            several = self._found_work and not self._found_suspect
            limit = min(free, answer.may_start, self._settings.batch_size) if several else 1
            try:
                claimed = await self._claimer.claim(limit)
                self._found_work = bool(claimed.contexts)
                self._found_suspect = any(map(is_suspect, claimed.contexts))
                await self._begin(claimed)
            finally:
                self._gate.give_back_probe()
        return timedelta(0) if self._found_work else self._poll_interval()

    async def _begin(self, claimed: Claimed) -> None:
        """Start what may start now, and hand back the rest."""
        refused: list[Context] = []
        for context in claimed.contexts:
            # A hold may have begun while the claim was on its way.
            held = self._stopping.is_set() or not self._gate.may_start(len(self._attempts))
            if held or not self._attempts.solitude.admits(context):
                refused.append(context)
            else:
                admission = self._gate.admit()
                self._attempts.begin(self._new_execution(context, claimed.lease_ends, admission))
        await self._claimer.hand_back(refused)

    async def _hand_back_unknown(self) -> None:
        try:
            await self._claimer.hand_back_unknown()
        except Exception as error:  # noqa: BLE001 - what is not handed back comes back when its lease ends
            logger.warning("a claim whose answer was lost is left to its lease: {}", error)

    def _until(self, answer: Answer) -> timedelta:
        """How long the gate stays shut, unless it tells otherwise."""
        if answer.again_at is None:
            return self._poll_interval()
        return max(answer.again_at - self._gate.now(), timedelta(0)) + _SPREAD * random.random()

    def _poll_interval(self) -> timedelta:
        if self._contexts.store.doorbell.available:
            return jittered(self._settings.poll_interval)
        return jittered(min(self._settings.poll_interval, LONGEST_POLL_WITHOUT_BELL))
