"""
Checks of the calls that the base services got.

I4   No call begins after the right of its attempt to call has ended: its lease, or the attempt itself.
I5   One call for each attempt at most, and none for an attempt that was never claimed.
I9   Never more calls in flight than the fleet may have; in the end none.
key  The `Idempotency-Key` of a context is the same over all attempts: the one that its document names.

A call whose attempt lost its lease may go on beside that of the next attempt; that is counted, not refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.faults.support.history import Call, Change, History
from tests.faults.support.violations import RUNNING, Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """The right of one attempt to call: from its claim to the end of its lease or to its own end."""

    begins: datetime
    ends: datetime


def rights_of(changes: Sequence[Change]) -> dict[int, Right]:
    """Attempt → its right to call, from the changes of its context."""
    rights: dict[int, Right] = {}
    holder: int | None = None
    for change in changes:
        document = change.document
        if document is not None and document["status"] == RUNNING and document.get("lease"):
            holder, expires_at = document["attempt"], document["lease"]["expires_at"]
            begins = rights[holder].begins if holder in rights else change.at
            rights[holder] = Right(begins=begins, ends=expires_at)
        elif holder is not None:
            right = rights[holder]
            rights[holder] = Right(begins=right.begins, ends=min(right.ends, change.at))
            holder = None
    return rights


def check_calls(history: History) -> Iterator[Violation]:
    """I4 and I5 of calls, and `key`."""
    calls: dict[str, list[Call]] = {}
    for call in history.calls:
        calls.setdefault(call.context_id, []).append(call)
    contexts = history.changes_of("contexts")
    for context_id, made in calls.items():
        changes = contexts.get(context_id, [])
        yield from _called_twice(context_id, made)
        yield from _keys(context_id, made, changes)
        if not changes or changes[0].kind != "snapshot":
            yield from _rights(history, context_id, made, rights_of(changes))


def _called_twice(context_id: str, calls: Sequence[Call]) -> Iterator[Violation]:
    seen: dict[int, Call] = {}
    for call in calls:
        if call.attempt in seen:
            what = f"attempt {call.attempt} called twice"
            yield Violation(rule="I5", what=what, concerns=context_id, evidence=(seen[call.attempt], call))
        seen[call.attempt] = call


def _keys(context_id: str, calls: Sequence[Call], changes: Sequence[Change]) -> Iterator[Violation]:
    stored = {
        change.document["idempotency_key"]
        for change in changes
        if change.document is not None and "idempotency_key" in change.document
    }
    sent = {call.key for call in calls}
    if len(sent | stored) > 1:
        yield Violation(
            rule="key", what=f"several idempotency keys: {sorted(sent | stored)}", concerns=context_id
        )


def _rights(
    history: History, context_id: str, calls: Sequence[Call], rights: dict[int, Right]
) -> Iterator[Violation]:
    slack = history.bounds.call_slack
    for call in calls:
        right = rights.get(call.attempt)
        if right is None:
            what = f"called for attempt {call.attempt}, which was never claimed"
            yield Violation(rule="I5", what=what, concerns=context_id, evidence=(call,))
        elif slack is not None:
            yield from _outside(context_id, call, right, slack)


def _outside(context_id: str, call: Call, right: Right, slack: timedelta) -> Iterator[Violation]:
    started = datetime.fromtimestamp(call.started, UTC)
    if started > right.ends + slack:
        late = (started - right.ends).total_seconds()
        what = f"attempt {call.attempt} called {late:.3f} s after it had lost the right to"
        yield Violation(rule="I4", what=what, concerns=context_id, evidence=(call, right))
    if started < right.begins - slack:
        what = f"attempt {call.attempt} called before it was claimed"
        yield Violation(rule="I5", what=what, concerns=context_id, evidence=(call, right))


def check_slots(history: History) -> Iterator[Violation]:
    """I9."""
    for service, limit in history.bounds.concurrency.items():
        calls = [call for call in history.calls if call.service == service]
        most = max(calls, key=lambda call: call.in_flight, default=None)
        if most is not None and most.in_flight > limit:
            what = f"{most.in_flight} calls of {service} in flight at once, where {limit} are allowed"
            yield Violation(rule="I9", what=what, concerns=most.context_id, evidence=(most,))
        for call in calls:
            if call.end == "open":
                what = f"a call of {service} is still in flight in the end"
                yield Violation(rule="I9", what=what, concerns=call.context_id, evidence=(call,))
