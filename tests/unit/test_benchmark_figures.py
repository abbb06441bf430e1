"""Tests of what the benchmarks compute from what they measure."""

import random

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.figures import Figure, percentile, steady_rate
from benchmarks.results import Results
from benchmarks.targets import TARGETS, at_least, at_most
from benchmarks.worker_process import CpuSample, cpu_milliseconds

pytestmark = pytest.mark.harness


def figure(*values: float) -> Figure:
    return Figure(name="claims", unit="claims/s", values=values)


def test_a_figure_is_the_median_of_its_runs_with_their_range() -> None:
    measured = figure(30, 10, 20)
    assert (measured.median, measured.lowest, measured.highest) == (20, 10, 30)


def test_a_percentile_is_the_smallest_value_that_enough_others_do_not_exceed() -> None:
    values = list(range(1, 101))
    random.Random(1).shuffle(values)
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert [percentile([7], share) for share in (0, 0.5, 0.99)] == [7, 7, 7]
    assert percentile([1, 2, 3], 0.5) == 2


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_a_steady_rate_leaves_out_the_beginning_and_the_end() -> None:
    steady = [100 + number / 1_000 for number in range(1_000)]
    slow_start, slow_end = [0.0, 50.0], [150.0, 300.0]
    assert steady_rate(slow_start + steady + slow_end) == pytest.approx(1_000, rel=0.01)


def test_events_at_one_moment_have_no_rate() -> None:
    with pytest.raises(ValueError, match="no rate"):
        steady_rate([1.0] * 50)
    with pytest.raises(ValueError, match="no rate"):
        steady_rate([])


def test_values_of_one_name_are_the_runs_of_one_figure() -> None:
    results = Results()
    for rate in (1.0, 3.0):
        results.add("claims", "claims/s", rate)
    results.add("ratio", "ratio", 0.5)
    assert [each.values for each in results.figures()] == [(1.0, 3.0), (0.5,)]
    with pytest.raises(ValueError, match="claims/s"):
        results.add("claims", "ms", 2.0)


def test_a_remark_is_said_once() -> None:
    results = Results()
    for _ in range(3):
        results.note("no redis-server")
    assert results.notes == ("no redis-server",)


def test_a_processor_time_that_could_not_be_told_is_left_out() -> None:
    results = Results()
    results.add_cpu("worker", None)
    assert results.figures() == []
    results.add_cpu("worker", 0.3)
    assert [each.median for each in results.figures()] == [0.3]


def test_a_target_is_met_by_the_median() -> None:
    assert at_least(20).met_by(figure(10, 20, 30))
    assert not at_least(21).met_by(figure(10, 20, 30))
    assert at_most(20).met_by(figure(10, 20, 30))
    assert not at_most(19).met_by(figure(10, 20, 30))
    assert [str(target) for target in (at_least(5_000), at_most(0.5))] == ["≥ 5,000", "≤ 0.5"]


def test_every_target_says_which_benchmark_it_belongs_to() -> None:
    assert {name.partition(":")[0].split(" ")[0] for name in TARGETS} <= BENCHMARKS.keys()


def test_what_a_context_costs_is_counted_between_the_first_claim_and_the_last_look() -> None:
    samples = [
        CpuSample(pending=1_000, workers=0.0, server=0.0),
        CpuSample(pending=1_000, workers=0.9, server=0.1),
        CpuSample(pending=900, workers=1.0, server=0.2),
        CpuSample(pending=500, workers=1.2, server=0.4),
        CpuSample(pending=100, workers=1.4, server=0.6),
    ]
    worker, server = cpu_milliseconds(samples)
    assert worker == pytest.approx(0.5)
    assert server == pytest.approx(0.5)


@pytest.mark.parametrize("pending", [[], [1_000], [1_000, 900], [1_000, 1_000], [1_000, 900, 900]])
def test_a_backlog_that_was_gone_too_quickly_tells_no_cost(pending: list[int]) -> None:
    samples = [CpuSample(pending=number, workers=1.0, server=1.0) for number in pending]
    assert cpu_milliseconds(samples) == (None, None)
