"""Counts: what happened in a history that is allowed to happen, and worth telling."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.support.history import Call, History
from tests.faults.support.violations import last_record, steps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of the changes that a history still has; a compaction takes away those of what is over."""

    requests: int
    acknowledged: int
    calls: int
    #: Claims of contexts; each is an attempt.
    claims: int
    #: Attempts that were taken back from a silent worker.
    reclaims: int
    #: Attempts that were handed back unfinished.
    releases: int
    #: Calls of a context after its first one: what a base service without idempotency would do again.
    repeated_calls: int
    #: Calls that went on while a later attempt of the same context called too.
    overlapping_calls: int
    #: Chunks that arrived after their attempt had ended.
    late_chunks: int


def counts(history: History) -> Counts:
    """Count."""
    claims = reclaims = releases = 0
    ended: dict[tuple[str, int], int] = {}
    for context_id, changes in history.changes_of("contexts").items():
        for step in steps_of(changes):
            claims += step.claims
            if step.ends_attempt:
                ended[context_id, step.before["attempt"]] = step.change.number
                reclaims += last_record(step.after).get("outcome") == "lease_lost"
                releases += last_record(step.after).get("outcome") == "released"
    late = [
        change
        for change in history.changes
        if change.collection == "events"
        and change.kind == "insert"
        and change.document is not None
        and ended.get((change.document["context_id"], change.document["attempt"]), change.number)
        < change.number
    ]
    return Counts(
        requests=len(history.final_requests),
        acknowledged=len(history.acknowledged),
        calls=len(history.calls),
        claims=claims,
        reclaims=reclaims,
        releases=releases,
        repeated_calls=len(history.calls) - len({call.context_id for call in history.calls}),
        overlapping_calls=count_duplicates(history),
        late_chunks=len(late),
    )


def count_duplicates(history: History) -> int:
    """How many calls were still in flight when a later attempt of the same context called."""
    calls: dict[str, list[Call]] = {}
    for call in history.calls:
        calls.setdefault(call.context_id, []).append(call)
    return sum(_overlapping(of_context) for of_context in calls.values())


def _overlapping(calls: Iterable[Call]) -> int:
    ordered = sorted(calls, key=lambda call: call.started)
    return sum(
        any(later.started < (call.ended or float("inf")) for later in ordered[place + 1 :])
        for place, call in enumerate(ordered)
    )
