"""Claimer: one for each worker; what it claims is either handed over or handed back (protocol, rule 4)."""

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, Lease
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.line import Candidate, Line
from agent_service.store.claims import Claim
from agent_service.store.notifier import Notification, Topic
from agent_service.telemetry import fail_point
from agent_service.telemetry.metrics import Counted
from agent_service.workers.line_looks import LineLooks
from agent_service.workers.roll import Choice, Roll

#: Where others claim too, a batch begins anywhere in the first few batches: one for each of them, or so many.
_MOST_APART = 8
#: How often it looks elsewhere where what was chosen is gone.
_ROUNDS = 8
#: While claims find work, the heads of the lines are looked at so often, and never for more than so large a
#: part of the time, unless one took very long: that may have been this process.
_LOOKS_APART, _PART_OF_LOOKS = timedelta(milliseconds=250), 50
_LONGEST_APART = timedelta(seconds=5)
#: The pause where lines seem to have work that cannot be claimed.
_NOT_YET = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Contexts that were claimed together; `lease_ends` is counted from before the claim was sent."""

    contexts: Sequence[Context]
    #: Monotonic seconds.
    lease_ends: float


class Claimer:
    """Claims for one worker, line by line, and gives back what a claim took whose answer was lost."""

    def __init__(
        self,
        contexts: ContextManager,
        *,
        service: str,
        queues: tuple[str, ...],
        worker_id: str,
        lease: timedelta,
        look_every: timedelta = timedelta(minutes=1),
        ageing: timedelta = timedelta(0),
        skips: Callable[[Line], bool] = lambda _line: False,
    ) -> None:
        self._contexts = contexts
        self._service = service
        self._queues = queues
        self._worker_id = worker_id
        self._lease = lease
        self._roll = Roll(queues, now=contexts.now, ageing=ageing, skips=skips)
        #: Whether to look at the heads of the lines though claims may find nothing.
        self._look_wanted = True
        #: When (monotonic seconds) the next look may be, and when it is due whatever claims find.
        self._next_look = self._latest_look = 0.0
        self._look_every = look_every
        self._looks = LineLooks(contexts.store.lines, service=service, queues=queues)
        #: Whether the last claim found something.
        self._found_work = False
        #: Whether it was a batch and found all that it asked for, so that there may be far more.
        self._found_more = False
        #: Leases of claims whose answers were lost.
        self._unknown: list[Lease] = []
        #: What is to be given back without having been started.
        self._unstarted: list[Context] = []

    def hear(self, notification: Notification) -> None:
        """Something became claimable, or was claimed by somebody else."""
        if notification.topic is Topic.TAKEN:
            if notification.context_id is not None:
                self._roll.taken(notification.context_id)
        elif notification.line is None or notification.rank is None:
            self._look_wanted = True
        else:
            self._roll.tell(notification.line, notification.rank, notification.context_id)

    def look_soon(self) -> None:
        """Notifications may have been missed: the next claim looks at all lines."""
        self._look_wanted = True

    def again_in(self) -> timedelta | None:
        """After how long another claim may find what this one did not; None: when somebody tells of it."""
        if self._look_wanted or self._looks.unfinished:
            return timedelta(seconds=max(self._next_look - time.monotonic(), 0))
        return _NOT_YET if self._roll else None

    async def claim(self, limit: int) -> Claimed:
        """
        Claim up to `limit` contexts.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`; nothing of that claim is ever executed.
        """
        await self.hand_back_unknown()
        await self._contexts.store.keep_clock_current()
        claimed = Claimed(contexts=[], lease_ends=0)
        try:
            for tried in range(_ROUNDS):
                if self._look_is_due():
                    await self._look()
                # Who lost what it chose to others claims one by one at last, which cannot be lost.
                asked = 1 if tried == _ROUNDS - 1 else limit
                choice = self._roll.choose(asked, apart=self._apart(asked))
                if not choice:
                    break
                claimed = await self._claim(choice, asked)
                if claimed.contexts:
                    break
                self._found_more = False
        except BaseException:
            # What was chosen is not known any more, and may not have been claimed.
            self._look_wanted, self._next_look = True, 0.0
            raise
        self._note(claimed, limit)
        return claimed

    async def _claim(self, choice: Choice, limit: int) -> Claimed:
        """Claim what was chosen, as far as it is there."""
        first = limit == 1 and bool(choice.readings)
        candidates: Sequence[Candidate] = choice.named
        if choice.readings and not first:
            candidates = self._roll.found(choice, await self._contexts.store.lines.waiting(choice.stretches))
        # First of all: a lease must never seem to last longer here than it does there.
        lease_ends = time.monotonic() + self._lease.total_seconds()
        claim = self._new_claim(limit)
        try:
            fail_point.reach("claim.sending")
            wanted = choice.stretches[0] if first else candidates
            contexts = await self._contexts.claim(claim, wanted) if wanted else []
            fail_point.reach("claim.answered")
        except StoreUnavailable:
            raise
        except Exception:
            # Whatever went wrong after it was sent, the claim may have been applied.
            self._unknown.append(claim.lease)
            raise
        if first:
            self._roll.found_first(choice, contexts[0].rank if contexts else None)
        return Claimed(contexts=contexts, lease_ends=lease_ends)

    def _new_claim(self, limit: int) -> Claim:
        now = self._contexts.now()
        lease = Lease(token=uuid.uuid4().hex, worker=self._worker_id, expires_at=now + self._lease)
        # Whoever had nothing to do may have been woken together with others; under load nobody is told.
        lone = limit == 1 and not self._found_work and self._colleagues() > 1
        return Claim(service=self._service, queues=self._queues, lease=lease, at=now, lone=lone)

    def _colleagues(self) -> int:
        """How many workers are known that take from the same queues, this one among them."""
        roster = self._contexts.store.roster
        return max(len(roster.working_for(self._service, queue)) for queue in self._queues)

    def _apart(self, limit: int) -> int:
        """How many claim from the same line: where all look at the first, all but one come too late."""
        return min(self._colleagues(), _MOST_APART) if limit > 1 and self._found_more else 1

    def _look_is_due(self) -> bool:
        now = time.monotonic()
        if now >= self._latest_look:
            # While there is something to do now and then, nobody comes to the slow poll.
            self._look_wanted = True
        wanted = self._look_wanted or self._found_work or self._looks.unfinished
        return wanted and now >= self._next_look

    async def _look(self) -> None:
        """Look at the heads of the lines. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        began, told = time.monotonic(), self._roll.told
        if not self._looks.unfinished:
            # What is wanted while a round goes on is a round from its beginning.
            self._look_wanted = False
        seen = await self._looks.look()
        self._roll.see(seen, told=told)
        now = time.monotonic()
        apart = max(_LOOKS_APART.total_seconds(), (now - began) * _PART_OF_LOOKS)
        self._next_look = now + min(apart, _LONGEST_APART.total_seconds())
        self._latest_look = now + jittered(self._look_every).total_seconds()
        if seen.odd:
            # What stands behind them is seen next.
            self._look_wanted = True
            await self._contexts.end_odd(seen.odd)

    def _note(self, claimed: Claimed, limit: int) -> None:
        """Count what was claimed, and remember whether there was work."""
        contexts = claimed.contexts
        if contexts and not self._found_work and not (self._look_wanted or self._looks.unfinished):
            # Where work comes one by one, notifications tell of it, and nobody need look. A look that is
            # wanted all the same is not put off, or it would be again with each that comes.
            next_look = time.monotonic() + _LOOKS_APART.total_seconds()
            self._next_look = max(self._next_look, next_look)
        if not contexts and (self._roll or self._roll.may_go_on):
            # What it knows of was claimed by others, or there is more behind it.
            self._look_wanted = True
        self._found_work = bool(contexts)
        self._found_more = len(contexts) == limit > 1
        tally = self._contexts.store.counters.tally
        for context in contexts:
            tally.of(context.service, context.queue).count(Counted.CLAIMED)
        for one in contexts[:1]:
            tally.of(one.service, one.queue).count(Counted.CLAIM)

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
