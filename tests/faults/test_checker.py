"""The checker is silent about what is legal, and objects to each broken rule of the protocol, I1 to I5."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.support.checker import assert_sound, check
from tests.faults.support.counts import Counts, counts
from tests.faults.support.example_runs import a_begun_run, an_eventful_run, rules, with_final
from tests.faults.support.legal_run import LEASE, LegalRun

pytestmark = pytest.mark.harness

SECOND = timedelta(seconds=1)
GRAPHS: list[dict[str, tuple[str, ...]]] = [
    {"a": ()},
    {"b": ("a",), "a": ()},
    {"d": ("b", "c"), "b": ("a",), "c": ("a",), "a": ()},
    {"b": ("a",), "a": (), "x": ()},
]


def test_it_is_silent_about_an_eventful_legal_run() -> None:
    assert check(an_eventful_run().history()) == []
    assert_sound(an_eventful_run().history())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(data=st.data())
def test_it_is_silent_about_whatever_is_legal(data: st.DataObject) -> None:
    run = LegalRun()
    for number in range(data.draw(st.integers(1, 3))):
        run.submit(f"r{number}", data.draw(st.sampled_from(GRAPHS)), max_attempts=2)
    for _ in range(data.draw(st.integers(0, 30))):
        live = [*run.with_status("pending"), *run.with_status("scheduled"), *run.with_status("running")]
        if not live:
            break
        go_on_with(run, data.draw(st.sampled_from(sorted(live))), data)
    run.work_off()
    assert check(run.history()) == []


def go_on_with(run: LegalRun, one: str, data: st.DataObject) -> None:
    run.pass_time(data.draw(st.sampled_from([0, 0.01, 1])))
    context = run.context(one)
    if context["status"] == "scheduled":
        run.promote(one)
    elif context["status"] == "pending":
        run.claim(one)
        if data.draw(st.booleans()):
            run.call(one, data.draw(st.sampled_from(["answered", "closed"])))
    else:
        retry = [] if context["tries"] >= context["max_attempts"] else ["retrying"]
        ways = ["chunk", "renew", "released", "completed", "failed", "lease_lost", *retry]
        way = data.draw(st.sampled_from(ways))
        if way == "chunk":
            run.chunk(one)
        elif way == "renew":
            run.renew(one)
        else:
            if way == "lease_lost":
                run.now = max(run.now, context["lease"]["expires_at"] + SECOND)
            run.end(one, way)


def test_it_counts_what_is_allowed_and_worth_telling() -> None:
    run = a_begun_run()
    run.call("r.draft", seconds=100)
    run.pass_time(31)
    run.end("r.draft", "lease_lost")
    run.chunk("r.draft")
    run.promote("r.draft")
    run.claim("r.draft")
    run.call("r.draft")
    run.end("r.draft", "released")
    run.work_off()
    assert counts(run.history()) == Counts(
        requests=1,
        acknowledged=1,
        calls=2,
        claims=4,
        reclaims=1,
        releases=1,
        repeated_calls=1,
        overlapping_calls=1,
        late_chunks=1,
    )


def test_an_objection_tells_the_story_of_whom_it_concerns() -> None:
    run = an_eventful_run()
    run.update("r.draft", output="other")
    with pytest.raises(AssertionError) as raised:
        assert_sound(run.history())
    told = str(raised.value)
    assert "I2: changed after its end: output [r.draft]" in told
    assert "the story of r.draft:" in told
    assert '"record": "call"' in told
    assert '"output": "other"' in told


# I1


def test_an_acknowledged_request_that_does_not_exist_breaks_i1() -> None:
    assert rules(an_eventful_run().history(acknowledged=frozenset({"r", "other"}))) == {"I1"}


@pytest.mark.parametrize("status", ["accepted", "running", "failed", "cancelled"])
def test_an_acknowledged_request_that_is_open_or_ended_otherwise_than_its_steps_breaks_i1(
    status: str,
) -> None:
    assert rules(with_final(an_eventful_run().history(), "r", status=status)) == {"I1"}


def test_an_ended_request_with_an_open_step_breaks_i1() -> None:
    assert rules(with_final(an_eventful_run().history(), "r.check", status="blocked")) == {"I1"}


def test_an_ended_request_with_a_missing_step_breaks_i1() -> None:
    history = an_eventful_run().history()
    left = {"r.draft": history.final_contexts["r.draft"]}
    assert rules(replace(history, final_contexts=left)) == {"I1"}


# I2


@pytest.mark.parametrize("field", ["output", "error", "usage", "history", "attempt", "tries", "finished_at"])
def test_a_context_that_changes_after_its_end_breaks_i2(field: str) -> None:
    sound, run = an_eventful_run().history(), an_eventful_run()
    run.update("r.draft", **{field: "other"})
    assert rules(replace(sound, changes=run.changes)) == {"I2"}


def test_a_context_that_runs_again_after_its_end_breaks_i2() -> None:
    sound, run = an_eventful_run().history(), an_eventful_run()
    run.update("r.draft", status="pending")
    assert rules(replace(sound, changes=run.changes)) == {"I2"}


def test_a_request_that_changes_after_its_end_breaks_i2() -> None:
    sound, run = an_eventful_run().history(), an_eventful_run()
    run.update("r", status="cancelled")
    assert rules(replace(sound, changes=run.changes)) == {"I2"}


# I3


def test_an_end_with_the_token_of_an_earlier_attempt_breaks_i3() -> None:
    run = a_begun_run()
    run.end("r.draft", "released")
    run.claim("r.draft")
    run.end("r.draft", "completed", token="r.draft-1")
    assert rules(run) == {"I3"}


def test_an_attempt_number_that_is_left_out_breaks_i3() -> None:
    run = a_begun_run()
    run.end("r.draft", "released")
    run.claim("r.draft", skipping=1)
    assert rules(run) == {"I3"}


def test_two_attempts_with_one_token_break_i3() -> None:
    run = a_begun_run()
    run.end("r.draft", "released")
    run.claim("r.draft", token="r.draft-1")
    assert rules(run) == {"I3"}


def test_an_attempt_that_writes_when_nobody_holds_the_lease_breaks_i3() -> None:
    run = a_begun_run()
    run.end("r.draft", "released")
    record = {"attempt": 1, "token": "r.draft-1", "outcome": "retrying", "chunks": 0}
    run.update("r.draft", history=[*run.context("r.draft")["history"], record])
    assert rules(run) == {"I3"}


# I4


def test_a_lease_that_passes_to_another_token_breaks_i4() -> None:
    run = a_begun_run()
    run.update("r.draft", lease={**run.context("r.draft")["lease"], "token": "other"})
    assert rules(run) == {"I4"}


def test_a_lease_that_is_taken_back_before_its_end_breaks_i4() -> None:
    run = a_begun_run()
    run.pass_time((LEASE - SECOND).total_seconds())
    run.end("r.draft", "lease_lost")
    assert rules(run) == {"I4"}


def test_a_lease_that_becomes_shorter_breaks_i4() -> None:
    run = a_begun_run()
    run.update("r.draft", lease={**run.context("r.draft")["lease"], "expires_at": run.now})
    assert rules(run) == {"I4"}


def test_a_lease_that_stays_after_its_attempt_breaks_i4() -> None:
    run = a_begun_run()
    lease = run.context("r.draft")["lease"]
    run.end("r.draft", "failed")
    changes = [
        replace(change, document={**change.document, "lease": lease})
        if change.id == "r.draft" and change.document is not None and change.document["status"] == "failed"
        else change
        for change in run.changes
    ]
    assert rules(run.history(changes=changes)) == {"I4"}


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "lease-over"])
def test_a_call_that_begins_when_its_attempt_has_no_right_to_any_more_breaks_i4(ended: bool) -> None:
    run = a_begun_run()
    if ended:
        run.end("r.draft", "released")
    run.pass_time(5 if ended else 40)
    run.call("r.draft")
    assert rules(run) == {"I4"}


# I5


def test_more_tries_than_a_context_has_break_i5() -> None:
    run = a_begun_run(max_attempts=1)
    run.end("r.draft", "retrying")
    assert rules(run) == {"I5"}


@pytest.mark.parametrize(
    ("outcome", "refund"), [("lease_lost", 1), ("released", 0), ("retrying", 2), ("completed", 1)]
)
def test_a_refund_that_is_not_due_or_not_given_breaks_i5(outcome: str, refund: int) -> None:
    run = a_begun_run()
    run.pass_time(31)
    run.end("r.draft", outcome, refund=refund)
    assert rules(run) == {"I5"}


def test_an_attempt_that_calls_twice_breaks_i5() -> None:
    run = a_begun_run()
    run.call("r.draft")
    run.call("r.draft")
    assert rules(run) == {"I5"}


@pytest.mark.parametrize("what", [{"attempt": 9}, {"context_id": "r.other"}])
def test_a_call_for_an_attempt_that_was_never_claimed_breaks_i5(what: dict[str, Any]) -> None:
    run = a_begun_run()
    run.call("r.draft", **what)
    assert rules(run) == {"I5"}


def test_a_call_before_its_claim_breaks_i5() -> None:
    run = a_begun_run()
    run.call("r.draft", started=run.now.timestamp() - 10)
    assert rules(run) == {"I5"}
