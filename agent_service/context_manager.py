"""ContextManager: the one door to stored contexts, from planning to settling."""

import dataclasses
import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from agent_service.domain.context import Context, ContextStatus, Lease
from agent_service.domain.errors import StoreError, UndecodableDocument
from agent_service.domain.events import Chunk
from agent_service.domain.json_value import JsonValue
from agent_service.domain.line import Candidate, rank_at
from agent_service.domain.planning import insertion_order
from agent_service.domain.request import Request, Step, context_id
from agent_service.domain.retrying import repeat_contexts
from agent_service.domain.stop import Stop
from agent_service.domain.templates import Placeholder
from agent_service.domain.transitions import Transition, released
from agent_service.settler import Settler, WrittenEnd
from agent_service.store import Store
from agent_service.store.cancellation import OpenRequest
from agent_service.store.claims import Claim
from agent_service.store.contexts import SENT_WITHIN
from agent_service.store.driver import Session
from agent_service.store.leases import LeaseState
from agent_service.store.lines import Stretch
from agent_service.store.operations import WRITE_LIMIT, at_most
from agent_service.store.outcomes import Outcome
from agent_service.store.paging import Odd
from agent_service.store.planned_document import PlannedContext
from agent_service.store.planned_marks import PlannedRequest
from agent_service.store.sizes import check_answer_size
from agent_service.telemetry import fail_point

#: How long an ended request is kept where nothing else is configured.
DEFAULT_RETENTION = timedelta(days=7)


class ContextManager:
    """
    Plans the contexts of a request, hands them to workers, takes their ends, and settles what follows.

    Every method raises `StoreUnavailable` when MongoDB does not answer, and those that write raise
    `WriteOutcomeUnknown` when an answer was lost; all of them can be repeated.
    """

    def __init__(self, store: Store, *, retention: timedelta = DEFAULT_RETENTION) -> None:
        self.store = store
        self.retention = retention
        self._settler = Settler(store, retention=retention)

    def now(self) -> datetime:
        """The server's time, as well as this process knows it."""
        return self.store.clock.now()

    async def plan(
        self,
        *requests: Request,
        until: float,
        session: Session | None = None,
        size: float = math.inf,
        ahead: bool = False,
    ) -> None:
        """
        Insert the contexts of new requests, sent before `until` (protocol, rule 7), which `plan_by` tells.

        `size` is what they have together, in bytes, at most, if that is known. It returns when a majority
        has them, or, `ahead` of it, when they can be claimed.

        Dependents go before what they wait for, so that a step that ends finds all that it releases; what a
        retry copies goes before all of them. What follows from a copy that cannot be made, is the rescuer's.
        """
        fail_point.reach("request.inserted")
        contexts: list[Context | PlannedContext] = []
        for request in requests:
            if request.retry_of is not None:
                contexts += await self._contexts_of(request)
            else:
                steps = insertion_order(request.submission.steps)
                contexts += [PlannedContext(request, step) for step in steps]
        insert = self.store.contexts.insert
        confirmed = await insert(contexts, session=session, until=until, size=size, ahead=ahead)
        if session is None:
            self._say_planned(requests, confirmed=confirmed)

    async def plan_missing(self, *requests: Request, until: float) -> None:
        """Like `plan`, for requests that were read before: one that has ended has all of its contexts."""
        open_requests = [request for request in requests if not request.status.ended]
        contexts = [context for request in open_requests for context in await self._contexts_of(request)]
        await self.store.contexts.insert_missing(contexts, until=until)
        self._say_planned(requests, confirmed=True)

    def _say_planned(self, requests: Sequence[Request], *, confirmed: bool) -> None:
        """Have it marked of these, once a majority has their contexts if that is not `confirmed` yet."""
        fail_point.reach("contexts.inserted")
        self.store.planned_marks.add(
            PlannedRequest(
                request.id,
                () if confirmed else [context_id(request.id, step) for step in request.step_names],
            )
            for request in requests
        )

    async def _contexts_of(self, request: Request) -> list[Context]:
        """The contexts that a request begins with, in the order in which they are to be inserted."""
        contexts = [new_context(request, step) for step in insertion_order(request.submission.steps)]
        if request.retry_of is None:
            return contexts
        originals = await self.store.contexts.results(request.retry_of, request.step_names)
        by_step = {original.step: original for original in originals}
        return repeat_contexts(contexts, request.reused, by_step, at=self.now())

    async def claim(self, claim: Claim, wanted: Stretch | Sequence[Candidate]) -> list[Context]:
        """Claim the first context of a stretch, or these; one goes in one round trip, more in two."""
        try:
            if isinstance(wanted, Stretch):
                first = await self.store.claims.claim_one(claim, wanted)
            elif len(wanted) == 1:
                first = await self.store.claims.claim_one(claim, *wanted)
            else:
                return await self.store.claims.claim_many(claim, [each.id for each in wanted])
            return [] if first is None else [first]
        finally:
            self._settle_undecodable()

    async def end_odd(self, context_ids: Sequence[Any]) -> None:
        """End those of these contexts that wait and cannot be decoded."""
        try:
            await self.store.claims.end_odd(context_ids, self.now())
        finally:
            self._settle_undecodable()

    def _settle_undecodable(self) -> None:
        claims = self.store.claims
        if claims.undecodable:
            undecodable, claims.undecodable = claims.undecodable, []
            self.store.calls.start(self.settle(undecodable))

    async def hand_back_claim(self, *leases: Lease) -> int:
        """
        Give back, refunded, what claims took whose answers were lost; returns how many contexts that were.

        Nothing of it was executed, because nobody knew of it (protocol, rule 4).
        """
        taken = await self.store.claims.find_claimed(*leases)
        return await self.hand_back(taken)

    async def hand_back(self, contexts: Collection[Context]) -> int:
        """Give back, refunded, what was claimed and never started; returns how many were still held."""
        if not contexts:
            return 0
        now = self.now()
        outcomes = [Outcome(context=context, transition=released(at=now)) for context in contexts]
        fail_point.reach("hand_back.sending")
        lost = await self.store.outcomes.apply(outcomes)
        given = [context.id for context in contexts if context.id not in lost]
        # What was to stop has ended instead of waiting anew. Given back it is in any case.
        with suppress(StoreError):
            await self.settle(given)
        return len(given)

    async def renew(self, tokens: Mapping[str, str], lease: timedelta) -> Mapping[str, LeaseState]:
        """Renew leases, given as context id → token, and read how they stand."""
        return await self.store.leases.renew(tokens, self.now() + lease, limit=lease / 3)

    async def leases(self, context_ids: Collection[str], lease: timedelta) -> Mapping[str, LeaseState]:
        """Read how leases of this length stand, and which of their attempts shall stop."""
        return await self.store.leases.read(context_ids, limit=lease / 3)

    async def scope(self, context: Context, used: Collection[Placeholder]) -> Mapping[str, JsonValue]:
        """What the placeholders of a context's input refer to: `vars` and `steps.NAME.output`."""
        scope: dict[str, JsonValue] = {}
        if any(placeholder.path[0] == "vars" for placeholder in used):
            scope["vars"] = await self.store.requests.variables(context.request_id)
        steps = {placeholder.path[1] for placeholder in used if placeholder.path[0] == "steps"}
        if steps:
            outputs = await self.store.contexts.outputs(context.request_id, steps)
            scope["steps"] = {step: {"output": output} for step, output in outputs.items()}
        return scope

    async def store_chunk(self, chunk: Chunk, *, within: timedelta = WRITE_LIMIT) -> None:
        """Store a piece of streamed output, or give that up after so long."""
        with at_most(within):
            await self.store.chunks.append(chunk)

    async def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        """
        Write how attempts ended; returns the ids of those whose lease was lost, which wrote nothing.

        Raises `UnstorableValue` besides; then none of them may have been written.
        """
        return await self.store.outcomes.apply(outcomes)

    def check_size(self, context: Context, answer: Mapping[str, JsonValue]) -> int:
        """The bytes of the answer. Raises `UnstorableValue` if the context would be too large with it."""
        return check_answer_size(context, answer)

    async def take_back(self, context: Context, transition: Transition) -> bool:
        """Take a context from a worker whose lease has ended; says whether it still had."""
        stored = await self.store.chunks.count(context.id, context.attempt)
        transition = dataclasses.replace(transition, chunks=stored)
        return await self.store.leases.take_back(context, transition)

    async def stop(self, request_id: str, steps: Collection[str], stop: Stop) -> None:
        """
        End whatever of a request has not ended (protocol, rules 9 and 11); it can be repeated.

        All of its contexts have to be there, because what is inserted afterwards is stopped by nobody.

        What no worker holds has ended when this returns, and so has the request if that was all. Attempts
        that run are told, and end when their worker has heard; one that completes meanwhile keeps its output.
        """
        ids = [context_id(request_id, step) for step in steps]
        # All flags come before the first end, so that nothing moves on into a state that was passed already.
        await self.store.cancellation.flag_contexts(request_id, stop)
        fail_point.reach("cancel.flagged")
        await self.store.cancellation.end_waiting(request_id, stop, at=self.now())
        fail_point.reach("cancel.waiting")
        await self.settle(ids)

    async def settle(self, context_ids: Collection[str]) -> None:
        """
        Write all that follows from the ends of these contexts (protocol, rule 8).

        Those that have not ended, or that somebody settled meanwhile, are left alone. Every step of it can be
        repeated, and is until the last one, which says that nothing is left to do.
        """
        await self._settler.settle(context_ids)

    async def settle_ends(self, ends: Sequence[WrittenEnd]) -> None:
        """Like `settle`, for ends that this process has just written."""
        await self._settler.settle_ends(ends)

    async def complete(self, request: OpenRequest) -> bool:
        """
        Insert what is missing of the contexts of a request: it is not planned yet, or somebody deleted one.

        False where that cannot be done because the request cannot be decoded; it is ended as such instead.
        """
        ids = [context_id(request.id, step) for step in request.step_names]
        if len(await self.store.contexts.existing(ids)) == len(ids):
            return True
        until = plan_by()
        try:
            stored = await self.store.requests.get(request.id)
        except UndecodableDocument as error:
            await self.end_undecodable(Odd(document={"_id": request.id}, error=error))
            return False
        if stored is not None:
            await self.plan_missing(stored, until=until)
        return True

    async def end_undecodable(self, odd: Odd) -> None:
        """End a request that cannot be decoded, as soon as nothing of it runs; it can be repeated."""
        await self._settler.end_undecodable(odd)


def plan_by() -> float:
    """Until when (monotonic) contexts of a request may be sent that is sent, or read, from now on."""
    return time.monotonic() + SENT_WITHIN.total_seconds()


def new_context(request: Request, step: Step) -> Context:
    """The context that a step begins with, where it does not copy the result of another."""
    waits = bool(step.after)
    return Context(
        id=context_id(request.id, step.name),
        request_id=request.id,
        step=step.name,
        service=step.service,
        queue=step.queue,
        caller=request.caller,
        status=ContextStatus.BLOCKED if waits else ContextStatus.PENDING,
        priority=request.submission.priority,
        rank=rank_at(request.created_at),
        run_at=request.created_at,
        waiting_on=step.after,
        input=step.input,
        metadata=request.submission.metadata,
        idempotency_key=context_id(request.id, step.name),
        max_attempts=step.max_attempts,
        # Work that is inserted only to be cancelled is not begun.
        cancel_requested=request.cancel_requested,
        sole=request.submission.sole,
        created_at=request.created_at,
        deadline_at=request.deadline_at,
        released_at=None if waits else request.created_at,
    )
