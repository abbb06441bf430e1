"""
Store model: what the store's operations mean, in plain Python, with nothing done in parts.

Each method is one operation as docs/protocol.md describes it; a test does the same to the real store
and compares. Times are told apart only as far as they matter: due or not, over or not.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent_service.domain.planning import all_dependents, direct_dependents, insertion_order
from agent_service.domain.request import Step

ENDED = frozenset({"completed", "failed", "cancelled"})
WAITING = frozenset({"blocked", "scheduled", "pending"})
#: Flag of a context → how what bears it ends; what bears both ends for the first.
STOPS = {"cancel_requested": "cancelled", "deadline_passed": "failed"}


@dataclass(slots=True)
class ModelContext:
    """One context; its field names are those of the document."""

    id: str
    request_id: str
    step: Step
    order: tuple[int, int, str]
    status: str
    waiting_on: set[str]
    attempt: int = 0
    tries: int = 0
    leases_lost: int = 0
    token: str | None = None
    #: Whether the lease's end has passed.
    lease_over: bool = False
    #: Whether `run_at` is far off.
    later: bool = False
    flags: set[str] = field(default_factory=set)
    settled: bool | None = None
    #: The attempt that made the output.
    output: int | None = None
    #: (attempt, token, outcome)
    history: list[tuple[int, str, str]] = field(default_factory=list)
    #: Token → when its worker said that the attempt had ended, and how that was noted.
    written: dict[str, tuple[datetime, str]] = field(default_factory=dict)

    def stop(self) -> str | None:
        """How it ends instead of going on, if it is to stop."""
        return next((status for flag, status in STOPS.items() if flag in self.flags), None)

    def end(self, status: str) -> None:
        """It has ended; what follows is not written yet."""
        self.status, self.settled = status, False


@dataclass(slots=True)
class ModelRequest:
    """One request."""

    id: str
    steps: tuple[Step, ...]
    order: tuple[int, int]
    overdue: bool
    status: str = "accepted"
    planned: bool = False
    cancel_requested: bool = False

    @property
    def ended(self) -> bool:
        """Whether it will never change again."""
        return self.status in ENDED


class StoreModel:
    """All requests and contexts there are."""

    def __init__(self) -> None:
        self.requests: dict[str, ModelRequest] = {}
        self.contexts: dict[str, ModelContext] = {}

    def insert_contexts(self, request: ModelRequest, *, most: int | None = None) -> None:
        """Those that are missing, of the first so many or of all."""
        for step in insertion_order(request.steps)[:most]:
            context_id = f"{request.id}.{step.name}"
            if context_id not in self.contexts:
                self.contexts[context_id] = ModelContext(
                    id=context_id,
                    request_id=request.id,
                    step=step,
                    order=(*request.order, context_id),
                    status="blocked" if step.after else "pending",
                    waiting_on=set(step.after),
                )

    def plan(self, request: ModelRequest) -> None:
        """Rule 7."""
        self.insert_contexts(request)
        request.planned = True

    def with_status(self, *statuses: str) -> list[ModelContext]:
        """The contexts that stand so."""
        return [context for context in self.contexts.values() if context.status in statuses]

    def claimable(self) -> list[ModelContext]:
        """What a claim takes, of its own service, the first first."""
        return sorted(self.with_status("pending"), key=lambda context: context.order)

    def unplanned(self) -> list[ModelRequest]:
        """The requests whose contexts may be missing."""
        return [request for request in self.requests.values() if not request.planned]

    def unsettled(self) -> list[ModelContext]:
        """What has ended, and what follows is not all written."""
        return [context for context in self.contexts.values() if context.settled is False]

    def claim(self, context: ModelContext, token: str, *, over: bool) -> None:
        """Rules 1 and 2."""
        assert context.status == "pending", f"{context.id} was claimed while {context.status}"
        context.status, context.token, context.lease_over = "running", token, over
        context.attempt += 1
        context.tries += 1

    def holds(self, context_id: str, token: str) -> bool:
        """Whether this token has the lease."""
        context = self.contexts[context_id]
        return context.status == "running" and context.token == token

    def end_attempt(
        self, context_id: str, token: str, outcome: str, *, at: datetime, later: bool, refund: bool
    ) -> bool:
        """Rules 2, 4 and 9; says whether the write is applied, or this very one was before."""
        context = self.contexts[context_id]
        if not self.holds(context_id, token):
            said_at, noted = context.written.get(token, (None, ""))
            return said_at == at and (outcome not in ENDED or noted == outcome)
        self._leave(context, outcome, later=later, refund=refund)
        context.written[token] = at, context.history[-1][2]
        return True

    def take_back(self, context_id: str, token: str, *, later: bool) -> bool:
        """Rule 5; says whether it was still held, by a lease that is over."""
        context = self.contexts[context_id]
        if not self.holds(context_id, token) or not context.lease_over:
            return False
        self._leave(context, "lease_lost", later=later, refund=False)
        return True

    def _leave(self, context: ModelContext, outcome: str, *, later: bool, refund: bool) -> None:
        """An attempt ends; what would run again ends instead if it is to stop."""
        assert context.token is not None
        final = outcome in ENDED or (outcome == "lease_lost" and context.tries >= context.step.max_attempts)
        stop = None if final else context.stop()
        if stop is not None:
            outcome, refund, final = stop, False, True
        context.history.append((context.attempt, context.token, outcome))
        context.token = None
        context.tries -= refund
        context.leases_lost += outcome == "lease_lost"
        if final:
            context.end(outcome if outcome in ENDED else "failed")
            context.output = context.attempt if outcome == "completed" else None
        else:
            context.later = later
            context.status = "pending" if outcome == "released" else "scheduled"

    def promote(self, *, far: bool) -> None:
        """What is due becomes claimable; with `far`, what is due in the far future too."""
        for context in self.contexts.values():
            if context.status == "scheduled" and (far or not context.later):
                self._go_on(context)

    def _go_on(self, context: ModelContext) -> None:
        stop = context.stop()
        if stop is None:
            context.status = "pending"
        else:
            context.end(stop)

    def flag(self, request: ModelRequest, flag: str) -> None:
        """The first half of stopping: nothing of it goes on from here."""
        for context in self.of(request):
            if context.status not in ENDED:
                context.flags.add(flag)

    def stop(self, request: ModelRequest, flag: str) -> None:
        """Rules 9 and 11."""
        self.flag(request, flag)
        for context in self.of(request):
            if context.status in WAITING:
                context.end(STOPS[flag])
        self.settle([context.id for context in self.of(request)])

    def settle(self, context_ids: Iterable[str], *, interrupted: bool = False) -> None:
        """Rule 8; `interrupted` after the dependents were written, and then repeated."""
        chosen = [self.contexts[each] for each in context_ids if each in self.contexts]
        ended = [context for context in chosen if context.settled is False]
        requests = {context.request_id: self.requests[context.request_id] for context in ended}
        before = {each: self._statuses(request) for each, request in requests.items()}
        cancelled: set[str] = set()
        for request in requests.values():
            mine = sorted((c for c in ended if c.request_id == request.id), key=lambda c: c.step.name)
            self._release(request, mine)
            cancelled |= self._cancel_dependents(request, mine)
        for request in requests.values():
            # Nobody looks again where nothing was cancelled; whoever settles that end will.
            fresh = bool(cancelled) or interrupted
            self._end_request(request, self._statuses(request) if fresh else before[request.id])
        for context_id in cancelled.union(context.id for context in ended) & self.contexts.keys():
            if self.contexts[context_id].settled is False:
                self.contexts[context_id].settled = True

    def _release(self, request: ModelRequest, ended: Sequence[ModelContext]) -> None:
        for context in ended:
            if context.status != "completed":
                continue
            for name in direct_dependents(request.steps, context.step.name):
                dependent = self.contexts.get(f"{request.id}.{name}")
                if dependent is not None and dependent.status == "blocked":
                    dependent.waiting_on.discard(context.step.name)
                    if not dependent.waiting_on:
                        self._go_on(dependent)

    def _cancel_dependents(self, request: ModelRequest, ended: Sequence[ModelContext]) -> set[str]:
        names: set[str] = set()
        for context in ended:
            if context.status != "completed":
                names |= all_dependents(request.steps, context.step.name)
        ids = {f"{request.id}.{name}" for name in names}
        for context_id in ids & self.contexts.keys():
            if self.contexts[context_id].status == "blocked":
                self.contexts[context_id].end("cancelled")
        return ids

    def _end_request(self, request: ModelRequest, statuses: Mapping[str, str]) -> None:
        if request.ended:
            return
        present = [statuses.get(step.name) for step in request.steps]
        if not all(status in ENDED for status in present):
            request.status = "running"
            return
        request.status = next((end for end in ("failed", "cancelled") if end in present), "completed")

    def has_repairs(self) -> bool:
        """Whether the rescuer would do anything."""
        late = any(context.lease_over for context in self.with_status("running"))
        open_ones = [request for request in self.requests.values() if not request.ended]
        return (
            late
            or bool(self.unsettled())
            or bool(self.unplanned())
            or any(request.overdue or request.cancel_requested for request in open_ones)
        )

    def sweep(self) -> None:
        """One round of the rescuer, which waits for nothing and backs off by nothing."""
        for request in self.unplanned():
            self.plan(request)
        lost = [c.id for c in self.contexts.values() if c.status == "running" and c.lease_over]
        for context_id in lost:
            self._leave(self.contexts[context_id], "lease_lost", later=False, refund=False)
        self.settle(lost)
        self._stop_all([r for r in self.requests.values() if r.cancel_requested], "cancel_requested")
        self._stop_all([r for r in self.requests.values() if r.overdue], "deadline_passed")
        self.settle([context.id for context in self.contexts.values()])

    def _stop_all(self, requests: Collection[ModelRequest], flag: str) -> None:
        for request in requests:
            if not request.ended:
                self.stop(request, flag)

    def of(self, request: ModelRequest) -> list[ModelContext]:
        """The contexts of a request that there are."""
        return [context for context in self.contexts.values() if context.request_id == request.id]

    def _statuses(self, request: ModelRequest) -> dict[str, str]:
        return {context.step.name: context.status for context in self.of(request)}
