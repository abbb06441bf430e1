"""
Checks of contexts: every change of each, against the one before.

I2  What has ended keeps its status, output, error, usage and history for ever.
I3  Only the attempt that holds the lease writes; attempt numbers grow by exactly one, at claims.
I4  A lease goes from one attempt to the next only by an end that was written, or, taken back, after its own
    end by the server's time.
I5  A claim takes one try, a refund gives one back, nothing else does either; what crashed is not refunded;
    never more tries than the context has.
order   Only what is pending is claimed, and only what runs completes.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from tests.faults.support.history import Change, History
from tests.faults.support.violations import RUNNING, Step, Violation, ended, last_record, steps_of, token_of

#: The server takes `$$NOW` and the time of a change from two clocks of its own, which may be apart by this.
_SERVER_CLOCKS = timedelta(milliseconds=100)
_FROZEN = ("status", "output", "error", "usage", "history", "attempt", "tries", "finished_at")


def check_contexts(history: History) -> Iterator[Violation]:
    """I2, I3, I4, I5 and `order`, from the changes of contexts alone."""
    for context_id, changes in history.changes_of("contexts").items():
        yield from _births(context_id, changes)
        yield from _tokens(context_id, changes)
        for step in steps_of(changes):
            for rule, what in _broken(step):
                yield Violation(rule=rule, what=what, concerns=context_id, evidence=(step.change,))


def _births(context_id: str, changes: Sequence[Change]) -> Iterator[Violation]:
    for number, change in enumerate(changes):
        document = change.document
        if change.kind != "insert" or document is None:
            continue
        if number > 0:
            yield Violation(rule="I2", what="inserted a second time", concerns=context_id, evidence=(change,))
        if not ended(document) and (document["attempt"], document["tries"]) != (0, 0):
            yield Violation(
                rule="I3",
                what="begins with an attempt already counted",
                concerns=context_id,
                evidence=(change,),
            )


def _tokens(context_id: str, changes: Sequence[Change]) -> Iterator[Violation]:
    """No two attempts of a context have the same token."""
    attempts: dict[str, int] = {}
    for change in changes:
        token = token_of(change.document) if change.document is not None else None
        if change.document is None or token is None:
            continue
        attempt = change.document["attempt"]
        if attempts.setdefault(token, attempt) != attempt:
            what = f"attempt {attempt} has the token of attempt {attempts[token]}"
            yield Violation(rule="I3", what=what, concerns=context_id, evidence=(change,))


def _broken(step: Step) -> Iterator[tuple[str, str]]:
    if ended(step.before):
        if changed := step.differs(*_FROZEN):
            yield "I2", f"changed after its end: {', '.join(changed)}"
    elif step.claims:
        yield from _claim(step)
    elif step.ends_attempt:
        yield from _end_of_attempt(step)
    elif step.before["status"] == RUNNING:
        yield from _while_running(step)
    else:
        yield from _while_waiting(step)


def _claim(step: Step) -> Iterator[tuple[str, str]]:
    before, after = step.before, step.after
    if before["status"] != "pending":
        yield "order", f"claimed while {before['status']}"
    if after["attempt"] != before["attempt"] + 1:
        yield "I3", f"a claim took attempt {before['attempt']} to {after['attempt']}"
    if after["tries"] != before["tries"] + 1:
        yield "I5", f"a claim took the tries from {before['tries']} to {after['tries']}"
    if after["tries"] > after["max_attempts"]:
        yield "I5", f"try {after['tries']} of {after['max_attempts']}"
    if token_of(after) is None:
        yield "I4", "claimed without a lease"
    if step.differs("history"):
        yield "I3", "a claim changed the history"


def _end_of_attempt(step: Step) -> Iterator[tuple[str, str]]:
    before, after = step.before, step.after
    record = last_record(after)
    if not step.differs("history") or record.get("token") != token_of(before):
        yield "I3", f"ended by {record.get('token')}, but {token_of(before)} held it"
    elif record.get("attempt") != before["attempt"] or after["attempt"] != before["attempt"]:
        yield "I3", f"attempt {before['attempt']} ended as attempt {record.get('attempt')}"
    if token_of(after) is not None:
        yield "I4", "its attempt ended and the lease stayed"
    outcome = record.get("outcome")
    refund = before["tries"] - after["tries"]
    allowed = {"released": (1,), "retrying": (0, 1)}.get(str(outcome), (0,))
    if refund not in allowed:
        yield "I5", f"an attempt that ended {outcome} gave back {refund} tries"
    if outcome == "lease_lost" and step.change.at + _SERVER_CLOCKS < before["lease"]["expires_at"]:
        yield "I4", f"taken back before {before['lease']['expires_at']}, the end of its lease"


def _while_running(step: Step) -> Iterator[tuple[str, str]]:
    before, after = step.before, step.after
    if token_of(before) != token_of(after):
        yield "I4", f"{token_of(after)} took the lease of {token_of(before)}, which had not ended"
        return
    if step.differs("attempt", "history"):
        yield "I3", f"attempt {after['attempt']} changed its own number or history"
    if step.differs("tries"):
        yield "I5", "the tries changed while an attempt ran"
    if after["lease"]["expires_at"] < before["lease"]["expires_at"]:
        yield "I4", "a lease became shorter"


def _while_waiting(step: Step) -> Iterator[tuple[str, str]]:
    if step.differs("attempt", "history", "lease"):
        yield "I3", "an attempt wrote that held no lease"
    if step.differs("tries"):
        yield "I5", "the tries changed while no attempt ran"
    if step.after["status"] == "completed":
        yield "order", f"completed while {step.before['status']}"
