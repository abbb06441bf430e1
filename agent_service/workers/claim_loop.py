"""ClaimLoop: claims for one worker whenever it has room, and sleeps until it is notified otherwise."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import StoreError
from agent_service.store.notifier import Subscription
from agent_service.store.outcomes import MOST_BYTES
from agent_service.workers.admission import Admission
from agent_service.workers.attempts import Attempts
from agent_service.workers.claimer import Claimed, Claimer, jittered
from agent_service.workers.execution import Execution
from agent_service.workers.prefetch import MOST_AHEAD, Claimable, Prefetch
from agent_service.workers.service_gate import Answer, ServiceGate
from agent_service.workers.solitude import is_suspect
from agent_service.workers.turns import Turns
from agent_service.workers.worker_settings import LONGEST_POLL_UNNOTIFIED, WorkerSettings

#: The pause after MongoDB did not answer, at most.
_LONGEST_PAUSE = timedelta(seconds=15)
#: How far apart workers ask again, at most, that wait for the end of the same hold.
_SPREAD = timedelta(milliseconds=200)
#: So many ends may wait to be written, for each slot and at least; while there are more, nothing is claimed.
_UNWRITTEN_PER_SLOT, _LEAST_UNWRITTEN = 8, 256
#: And so many bytes of their answers: one bulk on its way and the next. Above them nothing begins, either.
_MOST_UNWRITTEN_BYTES = 2 * MOST_BYTES


class ClaimLoop:
    """
    Fills the free slots of one worker, as far as its gate lets it, and claims ahead while attempts are short.

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
            contexts,
            service=service,
            queues=queues,
            worker_id=worker_id,
            lease=settings.lease,
            look_every=settings.poll_interval,
            ageing=settings.priority_ageing,
        )
        self._turns = Turns(
            contexts.store, self._claimer, service=service, queues=queues, worker_id=worker_id
        )
        # Whoever wants smaller batches than there are slots wants no larger ones ahead of them.
        small = settings.batch_size < settings.concurrency
        most = settings.batch_size if small else max(settings.concurrency, MOST_AHEAD)
        self._prefetch = Prefetch(settings.concurrency, lease=settings.lease, most=most)
        self._stopping = asyncio.Event()
        self._subscription: Subscription | None = None
        #: Whether the last claim found something.
        self._found_work = False
        #: Whether it found nothing, and nobody was notified since.
        self._drained = False
        #: Whether it found one that has to run alone; then there may be more, and each is claimed by itself.
        self._found_suspect = False
        #: Whether nothing is claimed because too many ends wait to be written.
        self._held_up = False

    def wake(self) -> None:
        """Look again at once: something changed, or the worker stops."""
        if self._subscription is not None:
            self._subscription.wake()

    def fill(self, seconds: float) -> None:
        """A slot is free after work that took so long: begin what waits for it, and claim if that is due."""
        self._prefetch.took(seconds)
        self._begin_waiting()
        if not self._drained and (self._free() or self._prefetch.wanted):
            self.wake()

    def written(self) -> None:
        """An end is written: claim again if too many were not."""
        if self._held_up and not self._too_many_unwritten():
            self._begin_waiting()
            self.wake()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim until `stopping` is set; outlives every trouble of MongoDB."""
        try:
            await self._claim_until(stopping)
        except Exception:
            await self._hand_back_at_the_end()
            raise
        await self._hand_back_at_the_end()

    async def _claim_until(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        failures = 0
        with (
            self._contexts.store.notifier.hold(self._turns) as subscription,
            self._attempts.solitude.waking(self.wake),
        ):
            self._subscription = subscription
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
                    if not await subscription.wait(pause / 2 if failures else pause):
                        self._claimer.look_soon()
                    self._drained = False
            self._subscription = None

    def let_go(self) -> None:
        """Leave what is still claimed ahead to its leases: nobody waits for this worker any more."""
        for claimable in self._prefetch.take_all():
            claimable.seat.leave()

    async def _rest(self, pause: timedelta) -> None:
        """Wait, whatever comes, or until a stop: what is handed back after trouble is notified, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._stopping.wait()

    async def _claim(self) -> timedelta:
        """Claim what there is room for, and start it; returns how long to wait unless notified."""
        if self._prefetch and (self._prefetch.overdue or not self._gate.may_start(0)):
            await self._hand_back_waiting()
        if self._attempts.solitude.wanted:
            # Whoever is alone wakes everybody when it has ended.
            await self._claimer.hand_back_unknown()
            return self._nap()
        self._held_up = self._too_many_unwritten()
        if self._held_up:
            return self._nap()
        if not self._free() and not self._prefetch.wanted:
            return self._nap()
        # Whoever asks to be alone from here on waits until what is claimed has begun or gone.
        with self._attempts.solitude.claiming():
            answer = await self._gate.ask(len(self._attempts))
            if not answer.may_start and not answer.open:
                await self._hand_back_waiting()
                return self._until(answer)
            try:
                limit = self._limit(answer)
                if not limit:
                    return self._nap()
                claimed = await self._claimer.claim(limit)
                self._found_work = bool(claimed.contexts)
                again_in = None if self._found_work else self._claimer.again_in()
                self._drained = not self._found_work and again_in is None
                self._found_suspect = any(map(is_suspect, claimed.contexts))
                await self._take(claimed)
            finally:
                self._gate.give_back_probe()
        if self._found_work:
            return timedelta(0)
        return self._nap() if again_in is None else min(self._nap(), again_in)

    def _limit(self, answer: Answer) -> int:
        """How many to claim at once."""
        room = min(self._free(), answer.may_start)
        # What has to run alone never waits in the line of the others.
        ahead = self._prefetch.wanted if answer.open and not self._found_suspect else 0
        if not self._found_work or self._found_suspect:
            # A trickle is claimed one by one, in one round trip; where there was one there may be more.
            return min(room + ahead, 1)
        return min(room, self._settings.batch_size) + ahead

    def _free(self) -> int:
        """How many slots nobody has or waits for."""
        return max(self._settings.concurrency - len(self._attempts) - len(self._prefetch), 0)

    def _too_many_unwritten(self) -> bool:
        most = max(self._settings.concurrency * _UNWRITTEN_PER_SLOT, _LEAST_UNWRITTEN)
        return self._attempts.unwritten >= most or self._too_many_bytes()

    def _too_many_bytes(self) -> bool:
        return self._attempts.unwritten_bytes >= _MOST_UNWRITTEN_BYTES

    async def _take(self, claimed: Claimed) -> None:
        """Start what may start now, let the rest wait for a slot, and hand back what may do neither."""
        refused: list[Context] = []
        solitude = self._attempts.solitude
        claimed_at = time.monotonic()
        for context in claimed.contexts:
            alone = is_suspect(context)
            if (
                self._stopping.is_set()
                or not solitude.admits(context)
                or (alone and not self._gate.may_start(len(self._attempts)))
            ):
                refused.append(context)
                continue
            claimable = Claimable(
                context=context,
                seat=solitude.enter(context),
                lease_ends=claimed.lease_ends,
                claimed_at=claimed_at,
            )
            if alone:
                self._begin(claimable)
            else:
                self._prefetch.append(claimable)
        self._begin_waiting()
        await self._claimer.hand_back(refused)

    def _begin_waiting(self) -> None:
        """Start those that wait, as far as there are slots; a hold may have begun since they were claimed."""
        # What waited too long is handed back: nobody has renewed its lease.
        if not self._prefetch or self._prefetch.overdue or self._stopping.is_set():
            return
        if self._too_many_bytes():
            self._held_up = True
            return
        startable = min(
            self._gate.may_start(len(self._attempts)), self._settings.concurrency - len(self._attempts)
        )
        for _ in range(min(startable, len(self._prefetch))):
            self._begin(self._prefetch.pop())

    def _begin(self, claimable: Claimable) -> None:
        try:
            execution = self._new_execution(claimable.context, claimable.lease_ends, self._gate.admit())
        except BaseException:
            claimable.seat.leave()
            raise
        self._attempts.begin(execution, claimable.seat)

    async def _hand_back_waiting(self) -> None:
        """Give back everything that has not begun. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        waiting = self._prefetch.take_all()
        for claimable in waiting:
            claimable.seat.leave()
        await self._claimer.hand_back([claimable.context for claimable in waiting])

    async def _hand_back_at_the_end(self) -> None:
        try:
            await self._hand_back_waiting()
        except Exception as error:  # noqa: BLE001 - what is not handed back comes back when its lease ends
            logger.warning("what was claimed and not begun is left to its lease: {}", error)

    def _until(self, answer: Answer) -> timedelta:
        """How long the gate stays shut, unless it tells otherwise."""
        if answer.again_at is None:
            return self._nap()
        return max(answer.again_at - self._gate.now(), timedelta(0)) + _SPREAD * random.random()

    def _nap(self) -> timedelta:
        """How long there is nothing to do unless this worker is notified."""
        pause = jittered(self._settings.poll_interval)
        if not self._contexts.store.notifier.available:
            pause = jittered(min(self._settings.poll_interval, LONGEST_POLL_UNNOTIFIED))
        overdue_in = self._prefetch.overdue_in()
        return pause if overdue_in is None else min(pause, overdue_in)
