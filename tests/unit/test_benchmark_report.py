"""Tests of the table and the JSON of the benchmarks, and of the guard."""

import json

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.report import Machine, as_json, number, table
from benchmarks.results import Results
from benchmarks.smoke import TRIES, Check, passes
from benchmarks.stage import Stage
from benchmarks.targets import at_least, at_most

pytestmark = pytest.mark.harness

MACHINE: Machine = {"cores": 2, "memory_gb": 8.0, "python": "3.11.7"}


def results() -> Results:
    found = Results()
    for rate, ratio in ((4_000.0, 1.5), (6_000.0, 2.5), (5_500.0, 2.25)):
        found.add("ingest: HTTP, 64 clients", "requests/s", rate)
        found.add("noop: worker / taskiq", "ratio", ratio)
    found.add("memory: worker, idle", "MB", 90.0)
    found.add("latency: cancel answered to call stopped, p50", "ms", -1.25)
    found.note("there was no redis-server")
    return found


def test_the_table_has_a_line_for_each_figure_with_its_range_and_whether_its_target_is_met() -> None:
    lines = table(results(), MACHINE).splitlines()
    assert lines[0] == "cores 2, memory_gb 8.0, python 3.11.7"
    rows = [" ".join(line.split()) for line in lines]
    assert "ingest: HTTP, 64 clients 5,500 4,000 to 6,000 requests/s 3 ≥ 3,500 met" in rows
    assert "noop: worker / taskiq 2.25 1.50 to 2.50 ratio 3 ≥ 1.7 met" in rows
    assert "memory: worker, idle 90.0 90.0 to 90.0 MB 1 ≤ 70 MISSED" in rows
    assert "latency: cancel answered to call stopped, p50 -1.25 -1.25 to -1.25 ms 1" in rows
    assert lines[-1] == "note: there was no redis-server"


def test_the_columns_of_the_table_stand_below_each_other() -> None:
    lines = table(results(), MACHINE).splitlines()[2:-1]
    units = ("unit", "requests/s", "ratio", "MB", "ms")
    rows = [lines[0], *lines[2:]]
    assert len({row.index(f" {unit} ") for row, unit in zip(rows, units, strict=True)}) == 1
    assert set(lines[1]) == {"-"}
    assert len(lines[1]) == max(len(row) for row in rows)


def test_the_json_has_every_run_and_says_which_targets_are_met() -> None:
    document = json.loads(as_json(results(), MACHINE, runs=3, quick=False))
    assert document["machine"] == MACHINE
    assert (document["runs"], document["quick"]) == (3, False)
    worker = document["figures"][0]
    assert worker["values"] == [4_000, 6_000, 5_500]
    assert (worker["median"], worker["lowest"], worker["highest"]) == (5_500, 4_000, 6_000)
    assert [figure.get("met") for figure in document["figures"]] == [True, True, False, None]
    assert document["notes"] == ["there was no redis-server"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12_345.6, "12,346"),
        (99.94, "99.9"),
        (4.567, "4.57"),
        (0.0123, "0.0123"),
        (0.0, "0.00"),
        (-1.5, "-1.50"),
    ],
)
def test_a_number_has_as_many_digits_as_say_something(value: float, text: str) -> None:
    assert number(value) == text


def test_all_benchmarks_are_there() -> None:
    assert list(BENCHMARKS) == [
        "claims", "lines", "chain", "throughput", "noop", "latency", "idle", "fleet", "ingest", "memory",
        "readers", "growth", "endurance",
    ]  # fmt: skip


def a_check(value: float) -> Check:
    return Check(name="batch claims / naive claims", value=value, bound=at_least(2))


def test_a_check_says_what_it_found_and_what_it_has_to_be() -> None:
    assert str(a_check(1.5)) == "FAILED  batch claims / naive claims: 1.50 (≥ 2)"
    assert str(a_check(2)) == "ok      batch claims / naive claims: 2.00 (≥ 2)"
    assert Check(name="keys", value=4, bound=at_most(4)).passed


async def test_checks_pass_when_all_pass_in_one_try_and_are_tried_no_more_often_than_they_may(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage: Stage = object()  # type: ignore[assignment]  # the checks here measure nothing

    async def tries_used(*values: float) -> tuple[bool, int]:
        made: list[float] = []

        async def measure(_: Stage) -> list[Check]:
            made.append(values[len(made)])
            return [a_check(9), a_check(made[-1])]

        return await passes(measure, stage), len(made)

    assert await tries_used(3, 1, 1) == (True, 1)
    assert await tries_used(1, 3, 1) == (True, 2)
    assert await tries_used(1, 1, 1) == (False, TRIES)
    assert "FAILED" in capsys.readouterr().out
