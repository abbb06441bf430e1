"""
Document: the figures in docs/benchmarks.md, written from docs/benchmarks.json, where the latest are kept.

`python -m benchmarks.document` writes the page again from what is kept.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.report import Machine, number
from benchmarks.targets import TARGETS

_DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, KEPT = _DOCS / "benchmarks.md", _DOCS / "benchmarks.json"
#: What stands between these two lines of the page is written here.
BEGIN = "<!-- What follows is written by `make bench` from benchmarks.json. -->"
END = "<!-- The end of what `make bench` writes. -->"
_HEAD = "| figure | seen | target |\n|---|---|---|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A figure of some runs, without the runs themselves."""

    name: str
    unit: str
    median: float
    lowest: float
    highest: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one benchmark found, where, and on which day (ISO 8601)."""

    day: str
    machine: Machine
    figures: tuple[Seen, ...]


#: Name of the benchmark to the latest that it found.
Kept = Mapping[str, Measured]


def read_kept(file: Path = KEPT) -> Kept:
    """What is kept in the repository."""
    return {
        name: Measured(
            day=found["day"],
            machine=found["machine"],
            figures=tuple(Seen(**figure) for figure in found["figures"]),
        )
        for name, found in json.loads(file.read_text(encoding="utf-8")).items()
    }


def renewed(kept: Kept, figures: Iterable[Figure], machine: Machine, day: str) -> Kept:
    """What is kept once these figures take the place of all that their benchmarks had found before."""
    of_benchmark: dict[str, list[Seen]] = {}
    for figure in figures:
        # Each figure begins with the name of its benchmark.
        [benchmark] = re.findall(r"^\w+", figure.name)
        of_benchmark.setdefault(benchmark, []).append(
            Seen(
                name=figure.name,
                unit=figure.unit,
                median=figure.median,
                lowest=figure.lowest,
                highest=figure.highest,
                runs=len(figure.values),
            )
        )
    found = {
        name: Measured(day=day, machine=machine, figures=tuple(seen)) for name, seen in of_benchmark.items()
    }
    return {**kept, **found}


def as_kept(kept: Kept) -> str:
    """The text of the file in which it is kept."""
    document = {name: asdict(measured) for name, measured in kept.items()}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def rendered(kept: Kept) -> str:
    """Every ratio and every figure with a target as a table, and what each benchmark was run on."""
    rows = [_row(seen) for measured in kept.values() for seen in measured.figures if _is_shown(seen)]
    places: dict[str, list[str]] = {}
    for name, measured in kept.items():
        about = ", ".join(f"{key} {value}" for key, value in measured.machine.items())
        places.setdefault(f"{measured.day}, {about}", []).append(f"`{name}`")
    told = [f"- {', '.join(names)}: {place}" for place, names in places.items()]
    return "\n".join([_HEAD, *rows, "", *told])


def with_figures(page: str, kept: Kept) -> str:
    """The page with these figures in it. Raises ValueError where it has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{rendered(kept)}\n\n{END}{after}"


def write_document(kept: Kept) -> None:
    """Keep these figures in the repository, and show them on the page."""
    KEPT.write_text(as_kept(kept), encoding="utf-8")
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


def _is_shown(seen: Seen) -> bool:
    return seen.unit == "ratio" or seen.name in TARGETS


def _row(seen: Seen) -> str:
    unit = "" if seen.unit == "ratio" else f" {seen.unit}"
    value = f"{number(seen.median)}{unit}"
    if seen.runs > 1:
        value += f" [{number(seen.lowest)} to {number(seen.highest)}]"
    target = TARGETS.get(seen.name)
    told = "" if target is None else str(target) if target.allows(seen.median) else f"{target}, missed"
    return f"| {seen.name} | {value} | {told} |"


if __name__ == "__main__":
    write_document(read_kept())
