"""The figures in docs/benchmarks.md are those that are kept, and each run renews those of its benchmarks."""

from pathlib import Path

import pytest

from benchmarks import document
from benchmarks.__main__ import BENCHMARKS
from benchmarks.document import (
    BEGIN,
    END,
    KEPT,
    PAGE,
    Kept,
    as_kept,
    read_kept,
    rendered,
    renewed,
    with_figures,
    write_document,
)
from benchmarks.figures import Figure
from benchmarks.report import Machine

pytestmark = pytest.mark.harness

MACHINE: Machine = {"cores": 2, "python": "3.11.7"}


def figure(name: str, unit: str, *values: float) -> Figure:
    return Figure(name=name, unit=unit, values=values)


def kept() -> Kept:
    figures = [
        figure("ingest: HTTP, 64 clients", "requests/s", 4_000, 6_000, 5_500),
        figure("noop: taskiq", "jobs/s", 3_000),
        figure("noop: worker / taskiq", "ratio", 1.5),
        figure("throughput 20 ms: worker / bare client", "ratio", 0.9, 0.8),
    ]
    return renewed({}, figures, MACHINE, "2026-01-31")


def test_the_page_shows_what_is_kept() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_figures(page, read_kept()), "run `python -m benchmarks.document`"
    assert KEPT.read_text(encoding="utf-8") == as_kept(read_kept())


def test_all_that_is_kept_is_of_a_benchmark_that_there_is() -> None:
    assert read_kept().keys() <= BENCHMARKS.keys()


def test_a_row_tells_the_median_the_range_and_whether_the_target_is_met() -> None:
    rows = rendered(kept()).splitlines()
    assert rows[2:] == [
        "| ingest: HTTP, 64 clients | 5,500 requests/s [4,000 to 6,000] | ≥ 3,500 |",
        "| noop: worker / taskiq | 1.50 | ≥ 1.7, missed |",
        "| throughput 20 ms: worker / bare client | 0.85 [0.80 to 0.90] | ≥ 0.85 |",
        "",
        "- `ingest`, `noop`, `throughput`: 2026-01-31, cores 2, python 3.11.7",
    ]


def test_a_run_renews_the_figures_of_its_benchmarks_and_leaves_the_others() -> None:
    again = renewed(kept(), [figure("noop: worker / taskiq", "ratio", 3)], {"cores": 4}, "2026-02-01")
    assert rendered(again).splitlines()[2:] == [
        "| ingest: HTTP, 64 clients | 5,500 requests/s [4,000 to 6,000] | ≥ 3,500 |",
        "| noop: worker / taskiq | 3.00 | ≥ 1.7 |",
        "| throughput 20 ms: worker / bare client | 0.85 [0.80 to 0.90] | ≥ 0.85 |",
        "",
        "- `ingest`, `throughput`: 2026-01-31, cores 2, python 3.11.7",
        "- `noop`: 2026-02-01, cores 4",
    ]


def test_what_was_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, file = tmp_path / "page.md", tmp_path / "kept.json"
    monkeypatch.setattr(document, "PAGE", page)
    monkeypatch.setattr(document, "KEPT", file)
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    for _ in range(2):
        write_document(kept())
    assert read_kept(file) == kept()
    text = page.read_text(encoding="utf-8")
    assert text == f"before\n\n{BEGIN}\n\n{rendered(kept())}\n\n{END}\n\nafter\n"


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_page_without_a_place_for_figures_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        with_figures(page, kept())
