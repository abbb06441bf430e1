"""The parts of the soak that decide what is asked for, what is broken, and what is a failure."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from agent_service.domain.submission import parse_submission
from tests.faults.soak.judge import judge, tell, was_on_its_way
from tests.faults.soak.log_watch import LogWatch
from tests.faults.soak.memory import MEGABYTE, growth_of
from tests.faults.soak.plans import plan_request
from tests.faults.soak.process_facts import exists, facts_of
from tests.faults.soak.report import Report
from tests.faults.soak.run import Soak
from tests.faults.soak.stage import SERVICES, Stop
from tests.faults.soak.troubles import KINDS, schedule
from tests.faults.support.checks_of_calls import Right
from tests.faults.support.history import Call, History
from tests.faults.support.legal_run import LegalRun
from tests.faults.support.violations import Violation

pytestmark = pytest.mark.harness


def test_every_plan_is_a_submission_that_the_api_takes() -> None:
    for number in range(500):
        parse_submission(plan_request(1, number).body, services=SERVICES, max_deadline=timedelta(days=1))


def test_a_number_of_a_seed_has_always_the_same_plan() -> None:
    assert [plan_request(7, n) for n in range(50)] == [plan_request(7, n) for n in range(50)]
    assert [plan_request(7, n) for n in range(50)] != [plan_request(8, n) for n in range(50)]


@pytest.mark.parametrize(
    "wanted",
    [
        lambda plan: plan.cancel_after is not None,
        lambda plan: plan.followed and plan.hangs_up_after is not None,
        lambda plan: plan.submissions > 1,
        lambda plan: plan.retried and plan.retried_from is None,
        lambda plan: plan.retried_from is not None,
        lambda plan: "deadline_seconds" in plan.body,
        lambda plan: any("fails" in step["input"] for step in plan.body["steps"]),
        lambda plan: any("too_many" in step["input"] for step in plan.body["steps"]),
        lambda plan: any("pieces" in step["input"] for step in plan.body["steps"]),
    ],
)
def test_every_kind_of_request_is_asked_for_within_a_minute(wanted: Callable[[Any], bool]) -> None:
    assert any(wanted(plan_request(1, number)) for number in range(240))


def test_every_kind_of_trouble_comes_once_before_any_comes_again() -> None:
    troubles = list(islice(schedule(5), 2 * len(KINDS)))
    for deck in (troubles[: len(KINDS)], troubles[len(KINDS) :]):
        assert {trouble.kind for trouble in deck} == set(KINDS)
    assert troubles == list(islice(schedule(5), 2 * len(KINDS)))
    assert [t.kind for t in troubles] != [t.kind for t in islice(schedule(6), 2 * len(KINDS))]


def test_only_the_kinds_that_are_asked_for_come() -> None:
    assert {trouble.kind for trouble in islice(schedule(5, ["API killed"]), 5)} == {"API killed"}


def test_a_soak_says_before_it_begins_what_it_will_break() -> None:
    soak = Soak(seed=5, length=timedelta(minutes=2))
    said = soak.describe().splitlines()
    assert "seed 5" in said[0]
    assert said[1:] == [f"  {trouble}" for trouble in islice(soak.troubles(), len(said) - 1)]


@pytest.mark.parametrize(("minutes", "rounds"), [(1, 1), (5, 1), (20, 4), (60, 12)])
def test_the_rounds_are_as_long_together_as_the_soak(minutes: int, rounds: int) -> None:
    lengths = Soak(seed=1, length=timedelta(minutes=minutes)).rounds()
    assert len(lengths) == rounds
    assert sum(lengths, timedelta(0)) == timedelta(minutes=minutes)


def memory(minutes: int, *, per_minute: float, until: int | None = None) -> list[tuple[float, int]]:
    """A sample every ten seconds of what grows by so many MB a minute, until a minute if one is named."""
    seconds = range(0, minutes * 60, 10)
    limit = (minutes if until is None else until) * 60
    return [(float(s), round((80 + per_minute * min(s, limit) / 60) * MEGABYTE)) for s in seconds]


@pytest.mark.parametrize(
    ("samples", "without_end"),
    [
        (memory(20, per_minute=0), False),
        (memory(20, per_minute=0.1), False),
        (memory(20, per_minute=1.5), True),
        (memory(60, per_minute=0.7), True),
        # What fills up and stays is no leak.
        (memory(20, per_minute=4, until=8), False),
        # Of a short run nothing can be said.
        (memory(5, per_minute=5), False),
    ],
)
def test_memory_that_never_stops_growing_is_told_from_memory_that_does(
    samples: list[tuple[float, int]], without_end: bool
) -> None:
    growth = growth_of(samples)
    assert growth is not None
    assert growth.without_end is without_end


def test_growth_is_measured_after_the_warm_up() -> None:
    samples = [(0.0, 10 * MEGABYTE), *((60.0 + s, 80 * MEGABYTE) for s in range(0, 100, 10))]
    growth = growth_of(samples)
    assert growth is not None
    assert (growth.first, growth.last, growth.pace) == (80 * MEGABYTE, 80 * MEGABYTE, 0.0)


def test_a_report_fails_for_each_thing_that_must_not_be() -> None:
    assert Report(seed=1, minutes=1, rate=1).failures == []
    assert Report(seed=1, minutes=1, rate=1, violations=["I1: gone"]).failures == ["I1: gone"]
    assert Report(seed=1, minutes=1, rate=1, surprises=["odd"]).failures == ["odd"]
    assert Report(seed=1, minutes=1, rate=1, odd_log_lines=["{}"]).failures == ["{}"]
    leaking = growth_of(memory(20, per_minute=2))
    assert leaking is not None
    (failure,) = Report(seed=1, minutes=1, rate=1, growth={"api-veteran": leaking}).failures
    assert failure.startswith("the memory of api-veteran grows without end: 2.00 MB")


def test_a_report_is_written_as_json_and_as_text(tmp_path: Path) -> None:
    Report(seed=4, minutes=1, rate=1, violations=["I1: gone"]).write(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["violations"] == ["I1: gone"]
    assert "I1: gone" in (tmp_path / "report.txt").read_text()


def log_line(process: Path, text: str) -> None:
    process.mkdir(exist_ok=True)
    with (process / "output.log").open("a", encoding="utf-8") as file:
        file.write(text)


def test_the_logs_are_counted_as_they_grow_and_odd_lines_are_kept(tmp_path: Path) -> None:
    logs = LogWatch(tmp_path)
    log_line(tmp_path / "000-api", '{"level": "INFO", "message": "fine"}\n{"level": "WARNING", "mess')
    logs.look()
    assert logs.levels == {"INFO": 1}
    log_line(tmp_path / "000-api", 'age": "2 outcomes could not be written"}\n')
    log_line(tmp_path / "001-worker", '{"level": "WARNING", "message": "7 outcomes could not be written"}\n')
    logs.look()
    logs.look()
    assert logs.levels == {"INFO": 1, "WARNING": 2}
    assert logs.messages == {"WARNING … outcomes could not be written": 2}
    assert logs.odd == []
    for line in ("Traceback", '{"level": "ERROR"}', '{"level": "WARNING", "exception": "x"}'):
        log_line(tmp_path / "001-worker", f"{line}\n")
    logs.look()
    assert len(logs.odd) == 3


def completed_with(output: dict[str, Any]) -> History:
    run = LegalRun()
    run.submit("r", {"check": ("draft",), "draft": ()})
    run.work_off()
    history = run.history()
    outputs = {"r.draft": {"step": "draft", "context": "r.draft", "before": []}, "r.check": output}
    return replace(
        history,
        final_contexts={
            name: {**context, "step": name.split(".")[1], "output": outputs[name]}
            for name, context in history.final_contexts.items()
        },
    )


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({}, set()),
        ({"context": "other.check"}, {"result"}),
        ({"step": "draft"}, {"result"}),
        ({"before": []}, {"result"}),
    ],
)
def test_a_result_that_was_made_for_another_step_is_objected_to(
    changed: dict[str, Any], broken: set[str], tmp_path: Path
) -> None:
    history = completed_with({"step": "check", "context": "r.check", "before": ["draft"], **changed})
    violations = [violation for violation in judge(history)[0] if violation.rule == "result"]
    assert {violation.rule for violation in violations} == broken
    written = tell(history, violations, tmp_path, name="round1").read_text()
    assert ("the story of r.check" in written) is bool(broken)


@pytest.mark.parametrize(
    ("stopped", "woken", "tolerated"), [(100, 106, True), (100, 103, False), (98, 106, False)]
)
def test_only_a_call_that_was_on_its_way_when_its_worker_was_stopped_may_come_late(
    stopped: float, woken: float, tolerated: bool
) -> None:
    begins, ends = datetime.fromtimestamp(99, UTC), datetime.fromtimestamp(102, UTC)
    call = Call(context_id="r.a", attempt=1, key="k", started=106.5, ended=107.0, end="answered", in_flight=1)
    violation = Violation(
        rule="I4", what="late", evidence=(call, Right(begins=begins, ends=ends)), concerns="r.a"
    )
    stop = Stop(began=stopped, ended=woken)
    assert was_on_its_way(violation, [stop]) is tolerated
    assert not was_on_its_way(replace(violation, rule="I5"), [stop])


def test_facts_of_a_process_are_there_while_it_is() -> None:
    facts = facts_of(None)
    assert facts is not None
    assert facts.resident > MEGABYTE
    assert exists(facts.pid)
    assert facts_of(2**22 + 1) is None
    assert not exists(2**22 + 1)
