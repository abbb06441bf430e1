"""Settler: writes all that follows from the ends of contexts, and can be repeated (protocol, rule 8)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from agent_service.domain.callback import CALLBACK_LIFE, callback_context, is_callback
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.request import RequestStatus, context_id
from agent_service.domain.settling import (
    Consequences,
    RequestPlan,
    consequences,
    end_of_request,
    freed,
    request_end,
)
from agent_service.domain.stop import Stop
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from agent_service.store.paging import Odd
from agent_service.store.settled_marks import Settled
from agent_service.store.settlement import OUTLIVES
from agent_service.store.settlement_view import EndedContext, SettlementView
from agent_service.store.undecodable import because_of, is_of_later_version
from agent_service.telemetry import fail_point


class WrittenEnd(NamedTuple):
    """
    What a process knows of the end of an attempt that it has just written.

    `status` is how the context ended, and None where it did not, or where that is not certain.
    """

    context_id: str
    request_id: str
    status: ContextStatus | None
    #: Whether the context is the only step of its request, whose end concerns nobody else.
    sole: bool
    #: Whether any attempt may have left chunks.
    streamed: bool

    @classmethod
    def of(cls, outcome: Outcome, *, certain: bool = True) -> Self:
        """That of an outcome; not `certain` where its write was repeated."""
        context, transition = outcome.context, outcome.transition
        return cls(
            context_id=context.id,
            request_id=context.request_id,
            status=transition.status if certain and transition.terminal else None,
            sole=context.sole,
            streamed=transition.chunks > 0 or context.attempt > 1,
        )


class Settler:
    """
    Releases and cancels dependents, ends requests, then says that nothing is left to do.

    Everything raises `StoreUnavailable` or `WriteOutcomeUnknown`, and is repeated by the rescuer until its
    last step is done.
    """

    def __init__(self, store: Store, *, retention: timedelta) -> None:
        self._store = store
        self._retention = retention

    async def settle_ends(self, ends: Sequence[WrittenEnd]) -> None:
        """
        Settle the ends that this process has just written; that they are settled is said a moment later.

        Where a context is the only step of its request there is nothing to read: its end is the request's.
        """
        sole = [end for end in ends if end.sole and end.status is not None]
        others = {end.context_id for end in ends} - {end.context_id for end in sole}
        if sole:
            await self._settle_sole(sole)
        if others and (settled := await self._settle(others)):
            self._store.settled_marks.add([Settled(tuple(settled))])

    async def settle(self, context_ids: Collection[str]) -> None:
        """Settle those of these contexts that have ended and that nobody settled meanwhile, and say so."""
        if settled := await self._settle(context_ids):
            await self._store.settlement.mark_settled(settled)

    async def _settle(self, context_ids: Collection[str]) -> set[str]:
        """Write all that follows; returns the ids of what is settled then."""
        fail_point.reach("settle.before")
        async with self._store.settlement.view() as view:
            ended = await view.ended(context_ids)
            if not ended:
                return set()
            # Nothing follows from the end of a callback.
            steps = [context for context in ended if not is_callback(context.id)]
            cancelled, unended = await self._follow(view, steps) if steps else (set(), set())
        settled = {context.id for context in ended if context.request_id not in unended}
        return settled | cancelled

    async def _follow(self, view: SettlementView, ended: Sequence[EndedContext]) -> tuple[set[str], set[str]]:
        """
        Write what follows from the ends of steps.

        Returns the ids of the contexts cancelled by it, and of requests that are to end and cannot yet.
        """
        plans, odd = await view.plans({context.request_id for context in ended})
        steps = _steps_by_request(ended)
        odd += [_without_a_step(plan) for plan in plans if not _names(plan) >= {*steps[plan.id]}]
        unended = {each.document["_id"] for each in odd if not await self.end_undecodable(each)}
        plans = [plan for plan in plans if _names(plan) >= {*steps[plan.id]}]
        statuses = await view.statuses(plans)
        follows = {plan.id: consequences(plan, statuses[plan.id], steps[plan.id]) for plan in plans}
        await self._apply(view, plans, statuses, follows)
        cancelled = {context_id(rid, step) for rid, what in follows.items() for step in what.cancellations}
        return cancelled, unended

    async def _apply(
        self,
        view: SettlementView,
        plans: Sequence[RequestPlan],
        statuses: Mapping[str, Mapping[str, ContextStatus]],
        follows: Mapping[str, Consequences],
    ) -> None:
        """Write the consequences, then the statuses of the requests."""
        at = self._store.clock.now()
        settlement = self._store.settlement
        told = freed(plans, statuses, follows)
        await settlement.write_consequences(follows, freed=told, at=at, session=view.session)
        fail_point.reach("settle.consequences")
        # What waits for another end, too, may be freed by who settles that at this moment and saw it blocked.
        unsure = sum(len(what.released) for what in follows.values()) > sum(map(len, told.values()))
        if unsure or any(what.cancellations for what in follows.values()):
            statuses = await view.statuses(plans)
        if unsure:
            settlement.tell_of_freed(freed(plans, statuses, follows), but=told)
        changed = {}
        for plan in plans:
            status = end_of_request(plan, statuses[plan.id]) or RequestStatus.RUNNING
            if plan.status is not status:
                changed[plan.id] = status
        ends = {plan.id: plan.status for plan in plans if plan.status.ended}
        expires_at = at + self._retention
        written = {**changed, **ends}
        await settlement.write_statuses(written, at=at, expires_at=expires_at, session=view.session)
        ended = [request_id for request_id, status in written.items() if status.ended]
        await self._create_callbacks(view, {plan.id for plan in plans if plan.callback}.intersection(ended))
        fail_point.reach("settle.expiry")
        await settlement.let_expire(ended, requests_expire_at=expires_at)
        fail_point.reach("settle.statuses")

    async def _create_callbacks(self, view: SettlementView, request_ids: Collection[str]) -> None:
        """Have the clients of these requests told of their ends; one that there is already is left alone."""
        if not request_ids:
            return
        at = self._store.clock.now()
        expires_at = at + CALLBACK_LIFE + self._retention + OUTLIVES
        ended = await self._store.callbacks.ended(request_ids, session=view.session)
        await self._store.contexts.insert([callback_context(e, at=at, expires_at=expires_at) for e in ended])
        # A purge that came between has looked for it too early; one that comes later finds it.
        await self._store.callbacks.delete_orphans([e.id for e in ended], session=view.session)

    async def end_undecodable(self, odd: Odd) -> bool:
        """
        End a request that cannot be decoded, once nothing of it runs or may still be inserted; what runs is
        told to stop. Says whether it has ended.

        One that a later version wrote is left to that one.
        """
        if is_of_later_version(odd.document):
            return False
        request_id, at = odd.document["_id"], self._store.clock.now()
        expires_at = at + self._retention
        await self._stop_waiting(request_id, because_of(odd), at)
        if not await self._store.cancellation.end_undecodable(odd, at=at, expires_at=expires_at):
            return False
        await self._store.settlement.let_expire([request_id], requests_expire_at=expires_at)
        return True

    async def _stop_waiting(self, request_id: str, stop: Stop, at: datetime) -> None:
        await self._store.cancellation.flag_contexts(request_id, stop)
        await self._store.cancellation.end_waiting(request_id, stop, at=at)

    async def _settle_sole(self, ends: Sequence[WrittenEnd]) -> None:
        """End the requests; a moment later the contexts are settled, and what belongs to them expires."""
        fail_point.reach("settle_sole.before")
        at = self._store.clock.now()
        requests = {end.request_id: request_end({end.status}) for end in ends if end.status is not None}
        await self._store.settlement.write_statuses(requests, at=at, expires_at=at + self._retention)
        fail_point.reach("settle_sole.ended")
        # What is missed, because nobody knows that it was stored, is found among the leftovers.
        streamed = [end.request_id for end in ends if end.streamed]
        ids = [end.context_id for end in ends]
        self._store.settled_marks.add([Settled(ids, streamed, self._retention)])


def _without_a_step(plan: RequestPlan) -> Odd:
    """A request whose steps are not those that its contexts were made of."""
    error = UndecodableDocument("steps", "an array without one that has ended", "what was submitted")
    return Odd(document={"_id": plan.id}, error=error)


def _names(plan: RequestPlan) -> set[str]:
    return {step.name for step in plan.steps}


def _steps_by_request(ended: Sequence[EndedContext]) -> Mapping[str, list[str]]:
    """Request id → the steps of it that have ended, in the order of their ends."""
    steps: dict[str, list[str]] = {}
    for context in ended:
        steps.setdefault(context.request_id, []).append(context.step)
    return steps
