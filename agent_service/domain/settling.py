"""Settling: what follows for a request from the end of some of its steps (protocol, rule 8)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from agent_service.domain.context import ContextError, ContextStatus
from agent_service.domain.line import Candidate, Line
from agent_service.domain.planning import all_dependents, direct_dependents
from agent_service.domain.request import RequestStatus, Step, context_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlan:
    """A request as far as settling needs it; the inputs of its steps are left out."""

    id: str
    steps: tuple[Step, ...]
    status: RequestStatus
    #: Whether somebody wants to be told of its end.
    callback: bool = False
    #: Where its steps wait, by their names, and their rank there.
    lines: Mapping[str, Line] = field(default_factory=dict)
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What is to be written in the contexts of one request."""

    #: (completed step, step that waits for it)
    releases: tuple[tuple[str, str], ...] = ()
    #: step that can never run → why
    cancellations: Mapping[str, ContextError]

    @property
    def released(self) -> set[str]:
        """The steps that wait for less than before."""
        return {dependent for _, dependent in self.releases}


def consequences(
    plan: RequestPlan, statuses: Mapping[str, ContextStatus], ended: Sequence[str]
) -> Consequences:
    """
    What follows from the ends of the steps `ended`, in their order; `statuses` are those of all contexts.

    Everything that depends on a step that did not complete is named, directly or not; what is not blocked any
    more is left alone by whoever writes it. What depends on several of them is cancelled for the first.
    """
    releases: list[tuple[str, str]] = []
    cancellations: dict[str, ContextError] = {}
    for step in ended:
        if statuses[step] is ContextStatus.COMPLETED:
            # What an earlier end has cancelled is not released any more.
            dependents = direct_dependents(plan.steps, step)
            releases += [(step, dependent) for dependent in dependents if dependent not in cancellations]
        else:
            for dependent in sorted(all_dependents(plan.steps, step)):
                cancellations.setdefault(dependent, _needed(step, statuses[step]))
    return Consequences(releases=tuple(releases), cancellations=cancellations)


def freed(
    plans: Sequence[RequestPlan],
    statuses: Mapping[str, Mapping[str, ContextStatus]],
    follows: Mapping[str, Consequences],
) -> dict[Line, list[Candidate]]:
    """
    What waits for nothing any more once these consequences are written, by its line.

    Statuses and consequences are given by request id.
    """
    waiting: dict[Line, list[Candidate]] = {}
    for plan in plans:
        after = {step.name: step.after for step in plan.steps}
        for dependent in follows[plan.id].released:
            needed = (statuses[plan.id].get(name) for name in after[dependent])
            line = plan.lines.get(dependent)
            if line is not None and all(status is ContextStatus.COMPLETED for status in needed):
                candidate = Candidate(context_id(plan.id, dependent), plan.rank)
                waiting.setdefault(line, []).append(candidate)
    return waiting


def end_of_request(plan: RequestPlan, statuses: Mapping[str, ContextStatus]) -> RequestStatus | None:
    """
    How the request ended, or None while it goes on.

    A context that is missing has not ended: its planner was interrupted, and it will be inserted.
    """
    present = [statuses.get(step.name) for step in plan.steps]
    if not all(status is not None and status.ended for status in present):
        return None
    return request_end({status for status in present if status is not None})


def request_end(ends: Collection[ContextStatus]) -> RequestStatus:
    """How a request ended all of whose contexts have, and these are their ends."""
    if ContextStatus.FAILED in ends:
        return RequestStatus.FAILED
    if ContextStatus.CANCELLED in ends:
        return RequestStatus.CANCELLED
    return RequestStatus.COMPLETED


def _needed(step: str, status: ContextStatus) -> ContextError:
    return ContextError(
        code="dependency_not_completed",
        message=f"the step {step!r}, which this one waits for, {_ENDS[status]}",
        retryable=False,
    )


_ENDS = {ContextStatus.FAILED: "failed", ContextStatus.CANCELLED: "was cancelled"}
