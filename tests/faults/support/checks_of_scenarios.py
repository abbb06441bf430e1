"""
Checks against what a scenario promises.

I6  What a killed worker held is taken back within lease + sweep, and runs again soon after its back-off.
I8  While something is broken, operations and log lines per second stay bounded.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from tests.faults.support.history import Change, History, Kill
from tests.faults.support.violations import RUNNING, Violation, steps_of


def check_kills(history: History) -> Iterator[Violation]:
    """I6."""
    within = history.bounds.taken_back_within
    if within is None:
        return
    for context_id, changes in history.changes_of("contexts").items():
        for kill in history.killed:
            yield from _taken_back(history, context_id, changes, kill, within)


def _taken_back(
    history: History, context_id: str, changes: Sequence[Change], kill: Kill, within: timedelta
) -> Iterator[Violation]:
    killed_at = datetime.fromtimestamp(kill.at, UTC)
    for place, change in enumerate(changes):
        if not _held_by(change, kill):
            continue
        later = changes[place + 1] if place + 1 < len(changes) else None
        if later is not None and (_held_by(later, kill) or later.at <= killed_at):
            continue
        deadline = max(killed_at, change.at) + within
        if later is None or later.at > deadline:
            when = "never" if later is None else f"{(later.at - deadline).total_seconds():.3f} s too late"
            what = f"a killed worker held it, and it was taken back {when}"
            yield Violation(rule="I6", what=what, concerns=context_id, evidence=(change, kill))
        elif history.bounds.claimed_within is not None:
            yield from _claimed_again(context_id, changes[place + 1 :], history.bounds.claimed_within)


def _claimed_again(context_id: str, changes: Sequence[Change], within: timedelta) -> Iterator[Violation]:
    back = changes[0]
    if back.document is None or back.document["status"] not in ("scheduled", "pending"):
        return
    deadline = max(back.at, back.document["run_at"]) + within
    leaving = [step for step in steps_of(changes) if step.after["status"] not in ("scheduled", "pending")]
    if not leaving or leaving[0].change.at > deadline:
        what = f"a killed worker held it, and it did not run again by {deadline}"
        yield Violation(rule="I6", what=what, concerns=context_id, evidence=(back,))


def _held_by(change: Change, kill: Kill) -> bool:
    document = change.document
    return (
        document is not None
        and document["status"] == RUNNING
        and bool(document.get("lease"))
        and document["lease"]["worker"] in kill.workers
    )


def check_samples(history: History) -> Iterator[Violation]:
    """I8."""
    bounds = history.bounds
    for sample in history.samples:
        for name, counted, most in (
            ("operations", sample.operations, bounds.operations_per_second),
            ("log lines", sample.log_lines, bounds.log_lines_per_second),
        ):
            if most is not None and counted > most:
                what = f"{counted:.1f} {name} per second while {sample.what}, where {most:.1f} are allowed"
                yield Violation(rule="I8", what=what, evidence=(sample,))
