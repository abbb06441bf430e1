"""Claimer: one for each worker; what it claims is either handed over or handed back (protocol, rule 4)."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, Lease
from agent_service.domain.errors import StoreUnavailable
from agent_service.store.claims import Claim
from agent_service.telemetry import fail_point
from agent_service.telemetry.metrics import Counted

#: Where others claim too, a batch begins anywhere in the first few batches: one for each of them, or so many.
_MOST_APART = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Contexts that were claimed together; `lease_ends` is counted from before the claim was sent."""

    contexts: Sequence[Context]
    #: Monotonic seconds.
    lease_ends: float


class Claimer:
    """Claims for one worker, and gives back what a claim took whose answer was lost."""

    def __init__(
        self,
        contexts: ContextManager,
        *,
        service: str,
        queues: tuple[str, ...],
        worker_id: str,
        lease: timedelta,
    ) -> None:
        self._contexts = contexts
        self._service = service
        self._queues = queues
        self._worker_id = worker_id
        self._lease = lease
        #: Whether the last claim found something.
        self._found_work = False
        #: Whether it was a batch and found all that it asked for, so that there may be far more.
        self._found_more = False
        #: Leases of claims whose answers were lost.
        self._unknown: list[Lease] = []
        #: What is to be given back without having been started.
        self._unstarted: list[Context] = []

    async def claim(self, limit: int) -> Claimed:
        """
        Claim up to `limit` contexts.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`; nothing of that claim is ever executed.
        """
        await self.hand_back_unknown()
        await self._contexts.store.keep_clock_current()
        # First of all: a lease must never seem to last longer here than it does there.
        lease_ends = time.monotonic() + self._lease.total_seconds()
        now = self._contexts.now()
        lease = Lease(token=uuid.uuid4().hex, worker=self._worker_id, expires_at=now + self._lease)
        # Whoever had nothing to do may have been woken together with others; under load nobody is told.
        roster = self._contexts.store.roster
        workers = max(len(roster.working_for(self._service, queue)) for queue in self._queues)
        lone = limit == 1 and not self._found_work and workers > 1
        claim = Claim(service=self._service, queues=self._queues, lease=lease, at=now, lone=lone)
        try:
            fail_point.reach("claim.sending")
            contexts = await self._contexts.claim(claim, limit, skip=self._offset(limit, workers))
            self._found_work = bool(contexts)
            self._found_more = len(contexts) == limit > 1
            fail_point.reach("claim.answered")
        except StoreUnavailable:
            raise
        except Exception:
            # Whatever went wrong after it was sent, the claim may have been applied.
            self._unknown.append(lease)
            raise
        self._count(contexts)
        return Claimed(contexts=contexts, lease_ends=lease_ends)

    def _offset(self, limit: int, workers: int) -> int:
        """How far down the line a batch begins: where all look at the first, all but one come too late."""
        if workers < 2 or limit == 1 or not self._found_more:
            return 0
        return random.randrange(limit * min(workers, _MOST_APART))

    def _count(self, contexts: Sequence[Context]) -> None:
        tally = self._contexts.store.counters.tally
        for context in contexts:
            tally.of(context.service, context.queue).count(Counted.CLAIMED)
        for first in contexts[:1]:
            tally.of(first.service, first.queue).count(Counted.CLAIM)

    async def hand_back(self, contexts: Sequence[Context]) -> None:
        """
        Give back what was claimed and not started; where MongoDB does not answer, again with the next claim.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        self._unstarted.extend(contexts)
        await self.hand_back_unknown()

    async def hand_back_unknown(self) -> None:
        """
        Look up what claims took whose answers were lost, and give it back.

        A claim may still be on its way, or take one context after the other, so it is looked up until its
        lease has ended. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        if self._unstarted:
            await self._contexts.hand_back(self._unstarted)
            self._unstarted.clear()
        if self._unknown:
            given = await self._contexts.hand_back_claim(*self._unknown)
            if given:
                logger.info("{} contexts were handed back after a lost answer", given)
            now = self._contexts.now()
            self._unknown = [lease for lease in self._unknown if lease.expires_at >= now]


def jittered(interval: timedelta) -> timedelta:
    """The interval, a little shorter or longer, so that many processes do not look at the same moment."""
    return interval * random.uniform(0.8, 1.2)
