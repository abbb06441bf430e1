"""The part of the store machine that claims, and ends, renews and takes back what was claimed."""

import asyncio
from collections.abc import Collection
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agent_service.domain.context import Context, ContextError, Lease
from agent_service.domain.transitions import Transition, completed, failed, lease_lost, released, retry_at
from agent_service.store.claims import Claim
from agent_service.store.outcomes import Outcome
from tests.faults.support.store_machine_of_requests import (
    FAR,
    SECOND,
    RequestsMachine,
    anyone,
    pick,
    token_of,
)
from tests.support.claiming import claim_waiting

#: What a worker makes of an attempt.
OUTCOMES = ["completed", "failed", "retrying", "refunded", "released"]
_ERROR = ContextError(code="no_answer", message="nobody answered", retryable=True)


class AttemptsMachine(RequestsMachine):
    """Workers, and rescuers that take back what they hold."""

    @precondition(lambda self: self.model.claimable())
    @rule(
        which=anyone,
        limit=st.integers(1, 4),
        over=st.booleans(),
        lost=st.sampled_from([False, False, False, True]),
    )
    def claim(self, which: int, limit: int, over: bool, lost: bool) -> None:
        """A worker claims; its lease may be over at once, or the answer be lost."""
        service = pick(self.model.claimable(), which).step.service
        first = [context for context in self.model.claimable() if context.step.service == service][:limit]
        # What is to stop is about to end: who claims it by its id leaves it.
        wanted = [context.id for context in first if not context.flags]
        claim = self._new_claim(service, over=over)
        claimed = self.world.run(claim_waiting(self.contexts, claim, limit))
        assert [context.id for context in claimed] == wanted
        self._note_claims(claimed, over=over)
        if lost:
            handed_back = self.world.run(self.contexts.hand_back_claim(claim.lease))
            assert handed_back == len(wanted)
            for context in claimed:
                assert self.model.end_attempt(
                    context.id, claim.lease.token, "released", at=claim.at, later=False, refund=True
                )
            # What was to stop has ended with that.
            self.model.settle(sorted(context.id for context in claimed))

    def _new_claim(self, service: str, *, over: bool) -> Claim:
        self.tokens += 1
        now = self.contexts.now()
        expires_at = now + (-SECOND if over else FAR)
        lease = Lease(token=f"t{self.tokens:03}", worker="worker", expires_at=expires_at)
        return Claim(service=service, queues=("default",), lease=lease, at=now)

    def _note_claims(self, claimed: Collection[Context], *, over: bool) -> None:
        for context in claimed:
            assert context.lease is not None
            self.model.claim(self.model.contexts[context.id], context.lease.token, over=over)
            self.held.append(context)

    @precondition(lambda self: self.held)
    @rule(
        which=st.lists(anyone, min_size=1, max_size=3),
        how=st.sampled_from(OUTCOMES),
        later=st.booleans(),
    )
    def end(self, which: list[int], how: str, later: bool) -> None:
        """Attempts end in one bulk, whoever holds their contexts by now; the same may be said twice."""
        first = pick(self.now_held() or self.held, which[0])
        chosen = {context.id: context for context in (pick(self.held, number) for number in which[1:])}
        chosen[first.id] = first
        outcomes = [Outcome(context=c, transition=self._transition(c, how, later)) for c in chosen.values()]
        lost = self.world.run(self.contexts.finish(outcomes))
        for outcome in outcomes:
            applied = self._end_in_model(outcome, later=later)
            assert (outcome.context.id in lost) != applied

    def now_held(self) -> list[Context]:
        """The claims whose token has the lease still."""
        return [context for context in self.held if self.model.holds(context.id, token_of(context))]

    def once_held(self) -> list[Context]:
        """The claims of contexts that somebody has now, maybe with a later claim."""
        return [context for context in self.held if self.model.contexts[context.id].status == "running"]

    def _transition(self, context: Context, how: str, later: bool) -> Transition:
        now = self.contexts.now()
        run_at = now + (FAR if later else -SECOND)
        match how:
            case "completed":
                return completed(at=now, output=context.attempt, usage=None, chunks=0)
            case "released":
                return released(at=now)
            case "refunded":
                return retry_at(at=now, run_at=run_at, error=_ERROR, chunks=0, refund=True)
            case "retrying" if context.tries < context.max_attempts:
                return retry_at(at=now, run_at=run_at, error=_ERROR, chunks=0)
            case _:
                return failed(at=now, error=_ERROR, chunks=0)

    def _end_in_model(self, outcome: Outcome, *, later: bool) -> bool:
        how = outcome.transition
        return self.model.end_attempt(
            outcome.context.id,
            outcome.token,
            how.outcome.value,
            at=how.at,
            later=later,
            refund=how.refund,
        )

    @precondition(lambda self: self.held)
    @rule(which=anyone)
    def renew(self, which: int) -> None:
        """A worker renews one lease, and reads who has it and what it shall do."""
        context = pick(self.once_held() or self.held, which)
        token = token_of(context)
        states = self.world.run(self.contexts.renew({context.id: token}, FAR))
        mirror = self.model.contexts[context.id]
        if self.model.holds(context.id, token):
            mirror.lease_over = False
        state = states[context.id]
        assert state.token == mirror.token
        assert state.cancel_requested == ("cancel_requested" in mirror.flags)
        assert state.deadline_passed == ("deadline_passed" in mirror.flags)

    @precondition(lambda self: self.held)
    @rule(which=anyone, later=st.booleans())
    def take_back(self, which: int, later: bool) -> None:
        """A rescuer that read this context a while ago takes it back, if it still may."""
        context = pick(self.once_held() or self.held, which)
        done = self.world.run(self.contexts.take_back(context, self._lost(context, later)))
        assert done == self.model.take_back(context.id, token_of(context), later=later)

    def _lost(self, context: Context, later: bool) -> Transition:
        # An end is known by its token and its time, so no worker says the same at the same moment.
        now = self.contexts.now() + timedelta(milliseconds=1)
        run_at = now + (FAR if later else -SECOND)
        return lease_lost(at=now, run_at=run_at, tries=context.tries, max_attempts=context.max_attempts)

    @precondition(lambda self: self.held)
    @rule(which=anyone, how=st.sampled_from(OUTCOMES))
    def end_and_take_back_at_once(self, which: int, how: str) -> None:
        """A worker and a rescuer write at the same moment: one of them, or none where neither may."""
        context = pick(self.held, which)
        outcome = Outcome(context=context, transition=self._transition(context, how, False))
        holds = self.model.holds(context.id, token_of(context))
        over = holds and self.model.contexts[context.id].lease_over

        async def race() -> tuple[frozenset[str], bool]:
            take_back = self.contexts.take_back(context, self._lost(context, False))
            return await asyncio.gather(self.contexts.finish([outcome]), take_back)

        lost, taken = self.world.run(race())
        assert over or not taken
        assert not (holds and lost and not taken)
        if taken:
            assert self.model.take_back(context.id, token_of(context), later=False)
        assert self._end_in_model(outcome, later=False) == (not lost)
