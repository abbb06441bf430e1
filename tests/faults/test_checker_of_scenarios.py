"""The checker objects to each broken promise of a scenario, and to wrong streams, orders and expiries."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.faults.support.example_runs import a_begun_run, an_eventful_run, rules, with_final
from tests.faults.support.history import History, Kill, Reading, Sample, Seen
from tests.faults.support.legal_run import LegalRun

pytestmark = pytest.mark.harness

SECOND = timedelta(seconds=1)


def promising(**bounds: object) -> History:
    """An eventful run of which more was promised than it keeps."""
    history = an_eventful_run().history()
    return replace(history, bounds=replace(history.bounds, **bounds))  # type: ignore[arg-type]  # any bound


def showing(change: Callable[[list[Seen]], list[Seen]]) -> History:
    """An eventful run whose reader was shown something else."""
    run = an_eventful_run()
    return run.history(readings=[Reading(request_id="r", events=tuple(change(run.shown["r"])))])


# I6


def test_a_killed_workers_context_that_is_taken_back_late_breaks_i6() -> None:
    assert rules(promising(taken_back_within=10 * SECOND)) == {"I6"}


def test_a_killed_workers_context_that_is_claimed_again_late_breaks_i6() -> None:
    assert rules(promising(claimed_within=-SECOND)) == {"I6"}


def test_a_killed_workers_context_that_is_never_taken_back_breaks_i6() -> None:
    run = a_begun_run()
    run.kill("worker")
    history = run.history(final_requests={}, final_contexts={}, acknowledged=frozenset())
    assert rules(history) == {"I6"}


def test_what_another_worker_holds_is_not_expected_back() -> None:
    run = a_begun_run()
    killed = [Kill(at=run.now.timestamp(), workers=frozenset({"another"}))]
    run.pass_time(3600)
    run.work_off()
    assert rules(run.history(killed=killed)) == set()


# I7


def test_a_context_that_was_never_settled_breaks_i7() -> None:
    assert rules(with_final(an_eventful_run().history(), "r.draft", settled=False)) == {"I7"}


def test_a_request_that_was_never_planned_breaks_i7() -> None:
    assert rules(with_final(an_eventful_run().history(), "r", planned=False)) == {"I7"}


@pytest.mark.parametrize("document_id", ["r", "r.check"])
def test_what_is_left_open_though_nobody_was_told_of_it_breaks_i7(document_id: str) -> None:
    history = an_eventful_run().history(acknowledged=frozenset())
    status = "running" if document_id == "r" else "blocked"
    assert rules(with_final(history, document_id, status=status)) == {"I7"}


def test_an_open_context_without_a_request_breaks_i7() -> None:
    history = a_begun_run().history(final_requests={}, acknowledged=frozenset())
    assert rules(history) == {"I7"}


# I8


@pytest.mark.parametrize("counted", [(99, 1), (1, 99)])
def test_more_operations_or_log_lines_than_promised_break_i8(counted: tuple[float, float]) -> None:
    sample = Sample(what="nothing answers", at=0, operations=counted[0], log_lines=counted[1])
    assert rules(an_eventful_run().history(samples=[sample])) == {"I8"}


# I9


def test_more_calls_in_flight_than_allowed_break_i9() -> None:
    assert rules(promising(concurrency={"generation": 0})) == {"I9"}


def test_a_call_that_is_still_in_flight_in_the_end_breaks_i9() -> None:
    run = a_begun_run()
    run.call("r.draft", "open")
    assert rules(run) == {"I9"}


# The key


def test_another_idempotency_key_of_one_attempt_breaks_key() -> None:
    run = a_begun_run()
    run.call("r.draft", key="other")
    assert rules(run) == {"key"}


# Streams and chunks


def test_a_chunk_of_an_earlier_attempt_that_a_reader_is_shown_breaks_i3() -> None:
    late = Seen(type="output.delta", step="draft", attempt=1, seq=2)
    assert rules(showing(lambda events: [*events[:-1], late, events[-1]])) == {"I3"}


def test_a_chunk_that_a_reader_is_shown_twice_breaks_i3() -> None:
    assert rules(showing(lambda events: [e for e in events for _ in range(2 if e.seq == 2 else 1)])) == {"I3"}


def test_events_after_the_end_of_a_stream_break_i2() -> None:
    assert rules(showing(lambda events: [*events, Seen(type="step.pending", step="check")])) == {"I2"}


def test_a_chunk_that_a_reader_of_a_completed_step_missed_breaks_chunks() -> None:
    assert rules(showing(lambda events: [e for e in events if (e.attempt, e.seq) != (4, 1)])) == {"chunks"}


@pytest.mark.parametrize("seq", [1, 2])
def test_a_stored_chunk_that_is_missing_breaks_chunks(seq: int) -> None:
    history = an_eventful_run().history()
    left = [chunk for chunk in history.final_chunks if (chunk["attempt"], chunk["seq"]) != (4, seq)]
    assert rules(replace(history, final_chunks=left)) == {"chunks"}


@pytest.mark.parametrize(
    "changes", [{"seq": 3}, {"attempt": 9, "seq": 1}, {"context_id": "r.other", "seq": 1}]
)
def test_a_chunk_too_many_breaks_chunks(changes: dict[str, object]) -> None:
    history = an_eventful_run().history()
    other = {**history.final_chunks[-1], **changes}
    assert rules(replace(history, final_chunks=[*history.final_chunks, other])) == {"chunks"}


def test_a_late_chunk_of_a_lost_attempt_breaks_nothing() -> None:
    run = a_begun_run()
    run.pass_time(31)
    run.end("r.draft", "lease_lost")
    run.chunk("r.draft")
    assert rules(run) == set()


# Order


def test_a_step_that_is_claimed_before_what_it_waits_for_completed_breaks_order() -> None:
    run = a_begun_run()
    run.update("r.check", status="pending")
    run.claim("r.check")
    assert rules(run) == {"order"}


@pytest.mark.parametrize("status", ["blocked", "scheduled"])
def test_a_context_that_is_claimed_while_it_is_not_pending_breaks_order(status: str) -> None:
    run = LegalRun()
    run.submit("r", {"draft": ()})
    run.update("r.draft", status=status)
    run.claim("r.draft")
    assert rules(run) == {"order"}


def test_a_step_that_completes_though_it_never_ran_breaks_order() -> None:
    sound = an_eventful_run().history()
    run = LegalRun()
    run.submit("r", {"draft": ()})
    run.update("r.draft", status="completed")
    assert rules(replace(sound, changes=run.changes, calls=(), readings=(), killed=())) == {"order"}


# Expiry


@pytest.mark.parametrize("document_id", ["r", "r.draft"])
def test_what_expires_before_its_request_has_ended_breaks_expiry(document_id: str) -> None:
    run = a_begun_run()
    run.update(document_id, expires_at=run.now)
    if document_id == "r":
        run.update(document_id, expires_at=None)
    assert rules(run) == {"expiry"}


def test_a_context_that_does_not_outlive_its_request_breaks_expiry() -> None:
    history = an_eventful_run().history()
    assert rules(with_final(history, "r.draft", expires_at=history.final_requests["r"]["expires_at"])) == {
        "expiry"
    }


@pytest.mark.parametrize("document_id", ["r", "r.draft"])
def test_what_never_expires_though_it_has_ended_breaks_expiry(document_id: str) -> None:
    assert rules(with_final(an_eventful_run().history(), document_id, expires_at=None)) == {"expiry"}


@pytest.mark.parametrize("document_id", ["r", "r.draft"])
def test_what_goes_before_it_expired_breaks_expiry(document_id: str) -> None:
    run = an_eventful_run()
    run.delete(document_id)
    assert rules(run) == {"expiry"}


def test_what_goes_after_it_expired_breaks_nothing() -> None:
    run = an_eventful_run()
    acknowledged = frozenset({"r"})
    run.pass_time(timedelta(days=8).total_seconds())
    run.delete("r")
    run.delete("r.draft")
    run.delete("r.check")
    gone = run.history(final_requests={}, final_contexts={}, final_chunks=[], acknowledged=acknowledged)
    assert rules(gone) == set()
