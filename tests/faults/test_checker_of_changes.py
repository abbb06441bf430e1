"""The checker objects to each change of a context that no operation makes."""

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.support.example_runs import a_begun_run, rules
from tests.faults.support.legal_run import LEASE, LegalRun

pytestmark = pytest.mark.harness

A_RECORD = {"attempt": 7, "token": "x", "outcome": "released", "chunks": 0}


def a_waiting_run() -> LegalRun:
    run = LegalRun()
    run.submit("r", {"draft": ()})
    return run


def a_claim(run: LegalRun, **changes: Any) -> dict[str, Any]:
    """The fields of the first claim of `draft`, or others."""
    lease = {"token": "t", "worker": "worker", "expires_at": run.now + LEASE}
    return {"status": "running", "attempt": 1, "tries": 1, "lease": lease} | changes


@pytest.mark.parametrize(
    ("rule", "changes"), [("I5", {"tries": 0}), ("I5", {"tries": 2}), ("I3", {"history": [A_RECORD]})]
)
def test_a_claim_that_does_not_take_one_try_and_nothing_else_breaks_a_rule(
    rule: str, changes: dict[str, Any]
) -> None:
    run = a_waiting_run()
    run.update("r.draft", **a_claim(run, **changes))
    assert rules(run) == {rule}


def test_a_claim_without_a_lease_breaks_i4() -> None:
    run = a_waiting_run()
    run.update("r.draft", **a_claim(run, lease=None))
    sound = a_begun_run()
    sound.work_off()
    # What came of it does not matter: nobody held it.
    assert rules(sound.history(changes=run.changes, acknowledged=frozenset())) == {"I4"}


@pytest.mark.parametrize(("rule", "changes"), [("I3", {"history": [A_RECORD]}), ("I5", {"tries": 0})])
def test_a_running_attempt_that_changes_its_past_or_its_budget_breaks_a_rule(
    rule: str, changes: dict[str, Any]
) -> None:
    run = a_begun_run()
    run.update("r.draft", **changes)
    assert rules(run) == {rule}


@pytest.mark.parametrize("tries", [0, 2])
def test_tries_that_change_while_a_context_waits_break_i5(tries: int) -> None:
    run = a_begun_run()
    run.end("r.draft", "retrying")
    run.update("r.draft", tries=tries)
    assert rules(run) == {"I5"}


def test_an_end_that_names_another_attempt_breaks_i3() -> None:
    run = a_begun_run()
    token = run.context("r.draft")["lease"]["token"]
    run.update("r.draft", status="pending", lease=None, tries=0, history=[{**A_RECORD, "token": token}])
    assert rules(run) == {"I3"}


def test_a_context_that_is_inserted_a_second_time_breaks_i2() -> None:
    run = a_waiting_run()
    run.changes.append(replace(next(c for c in run.changes if c.id == "r.draft"), number=100))
    assert rules(run) == {"I2"}


def test_a_context_that_begins_with_an_attempt_breaks_i3() -> None:
    run = a_waiting_run()
    run.documents["contexts"]["r.draft"] = {**run.context("r.draft"), "attempt": 1}
    run.changes = [
        replace(change, document=run.context("r.draft")) if change.id == "r.draft" else change
        for change in run.changes
    ]
    assert rules(run) == {"I3"}
