"""
Checks of requests: their ends, what is left over, and what may expire.

I1  Every acknowledged request has exactly one end, which follows from the ends of all its steps.
I2  What a request ended with never changes.
I7  In the end nothing is left open, unplanned or unsettled, acknowledged or not.
order   No step is claimed or completes before everything that it waits for has completed.
expiry  Nothing may expire, or go, before its request has ended; contexts outlive their request by an hour.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from tests.faults.support.changed_documents import request_of
from tests.faults.support.history import Change, Document, History
from tests.faults.support.violations import Violation, ended, steps_of

_OUTLIVES = timedelta(hours=1) - timedelta(seconds=1)
_FROZEN = ("status", "finished_at", "steps", "retry_of")


def check_requests(history: History) -> Iterator[Violation]:
    """I1, I2 and I7."""
    yield from _acknowledged(history)
    yield from _left_over(history)
    for request_id, changes in history.changes_of("requests").items():
        for step in steps_of(changes):
            changed = step.differs(*_FROZEN) if ended(step.before) else []
            if changed:
                what = f"the request changed after its end: {', '.join(changed)}"
                yield Violation(rule="I2", what=what, concerns=request_id, evidence=(step.change,))


def _acknowledged(history: History) -> Iterator[Violation]:
    gone = {change.id for change in history.changes if change.kind == "delete"}
    for request_id in sorted(history.acknowledged):
        request = history.final_requests.get(request_id)
        if request is not None:
            for what in _unfinished(request, history.final_contexts):
                yield Violation(rule="I1", what=what, concerns=request_id, evidence=(request,))
        elif request_id not in gone:
            yield Violation(rule="I1", what="was acknowledged and does not exist", concerns=request_id)


def _unfinished(request: Document, contexts: Mapping[str, Document]) -> Iterator[str]:
    """Why this request has not ended as it should."""
    statuses = set()
    for step in request["steps"]:
        context = contexts.get(f"{request['_id']}.{step['name']}")
        status = "missing" if context is None else context["status"]
        statuses.add(status)
        if context is None or not ended(context):
            yield f"the step {step['name']} is {status} in the end"
    worst = next((status for status in ("failed", "cancelled") if status in statuses), "completed")
    if not ended(request):
        yield f"is {request['status']} in the end"
    elif request["status"] != worst and statuses <= {"completed", "failed", "cancelled"}:
        yield f"is {request['status']}, and its steps say {worst}"


def _left_over(history: History) -> Iterator[Violation]:
    for request_id, request in history.final_requests.items():
        if request["planned"] is not True:
            yield Violation(rule="I7", what="was never planned", concerns=request_id, evidence=(request,))
        if request_id not in history.acknowledged:
            for what in _unfinished(request, history.final_contexts):
                yield Violation(rule="I7", what=what, concerns=request_id, evidence=(request,))
    for context_id, context in history.final_contexts.items():
        if ended(context):
            if context.get("settled") is not True:
                yield Violation(rule="I7", what="was never settled", concerns=context_id, evidence=(context,))
        elif request_of(context_id) not in history.final_requests:
            yield Violation(rule="I7", what="is open, and its request is gone", concerns=context_id)


def check_order(history: History) -> Iterator[Violation]:
    """`order`, over all contexts of a request."""
    waits: dict[str, tuple[str, ...]] = {}
    statuses: dict[str, str] = {}
    for change in history.changes:
        document = change.document
        if document is None:
            continue
        if change.collection == "requests" and isinstance(document.get("steps"), list):
            for step in document["steps"]:
                waits[f"{change.id}.{step['name']}"] = tuple(f"{change.id}.{name}" for name in step["after"])
        elif change.collection == "contexts":
            became = document["status"]
            # A request that repeats another begins with what is completed already, inserted as such.
            if (
                change.kind == "update"
                and became in ("running", "completed")
                and became != statuses.get(change.id)
            ):
                yield from _too_early(change, waits.get(change.id, ()), statuses, became)
            statuses[change.id] = became


def _too_early(
    change: Change, waits: tuple[str, ...], statuses: Mapping[str, str], became: str
) -> Iterator[Violation]:
    for other in waits:
        if statuses.get(other) != "completed":
            what = f"became {became} while {other}, which it waits for, is {statuses.get(other)}"
            yield Violation(rule="order", what=what, concerns=change.id, evidence=(change,))


def check_expiry(history: History) -> Iterator[Violation]:
    """`expiry`, from the order of the changes and from what there is in the end."""
    over: dict[str, bool] = {}
    last: dict[tuple[str, str], Document] = {}
    for change in history.changes:
        key, document, request_id = (change.collection, change.id), change.document, request_of(change.id)
        before = last.get(key)
        if document is None:
            if before is not None and (before.get("expires_at") is None or before["expires_at"] > change.at):
                yield Violation(
                    rule="expiry", what="is gone, and had not expired", concerns=change.id, evidence=(change,)
                )
            continue
        if change.collection == "requests":
            over[request_id] = ended(document)
        last[key] = document
        fresh = before is None or before.get("expires_at") is None
        # Where no request was ever seen, its contexts are orphans, and somebody has to let them go.
        if fresh and document.get("expires_at") is not None and over.get(request_id) is False:
            yield Violation(
                rule="expiry",
                what="expires before its request has ended",
                concerns=change.id,
                evidence=(change,),
            )
    yield from _outliving(history)


def _outliving(history: History) -> Iterator[Violation]:
    for request_id, request in history.final_requests.items():
        if not ended(request):
            continue
        expires_at = request.get("expires_at")
        if expires_at is None:
            yield Violation(rule="expiry", what="has ended and never expires", concerns=request_id)
            continue
        for step in request["steps"]:
            context = history.final_contexts.get(f"{request_id}.{step['name']}")
            if context is not None and context.get("expires_at") is None:
                yield Violation(rule="expiry", what="never expires", concerns=context["_id"])
            elif context is not None and context["expires_at"] < expires_at + _OUTLIVES:
                yield Violation(rule="expiry", what="does not outlive its request", concerns=context["_id"])
