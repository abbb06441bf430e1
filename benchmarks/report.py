"""Report: the figures of a run as a table for people and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence

from benchmarks.figures import Figure
from benchmarks.results import Results
from benchmarks.targets import TARGETS, Target

Machine = Mapping[str, str | int | float]

_HEAD = ("figure", "median", "range", "unit", "runs", "target", "")


def table(results: Results, machine: Machine) -> str:
    """The machine, one line for each figure, and the remarks."""
    rows = [_HEAD, *(_row(figure, TARGETS.get(figure.name)) for figure in results.figures())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    return "\n".join([about, "", *lines, *(f"note: {note}" for note in results.notes)])


def as_json(results: Results, machine: Machine, *, runs: int, quick: bool) -> str:
    """The same as a JSON document; `values` are the runs in their order."""
    figures = [_object(figure, TARGETS.get(figure.name)) for figure in results.figures()]
    document = {
        "machine": dict(machine),
        "runs": runs,
        "quick": quick,
        "figures": figures,
        "notes": list(results.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def number(value: float) -> str:
    """As many digits as say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"


def _row(figure: Figure, target: Target | None) -> tuple[str, ...]:
    return (
        figure.name,
        number(figure.median),
        f"{number(figure.lowest)} to {number(figure.highest)}",
        figure.unit,
        str(len(figure.values)),
        str(target) if target else "",
        "" if target is None else "met" if target.met_by(figure) else "MISSED",
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    left_aligned = (0, 3, 6)
    cells = [
        cell.ljust(width) if column in left_aligned else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _object(figure: Figure, target: Target | None) -> dict[str, object]:
    told: dict[str, object] = {
        "name": figure.name,
        "unit": figure.unit,
        "median": figure.median,
        "lowest": figure.lowest,
        "highest": figure.highest,
        "values": list(figure.values),
    }
    if target is not None:
        told |= {"target": str(target), "met": target.met_by(figure)}
    return told
