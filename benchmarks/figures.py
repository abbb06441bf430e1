"""Figures: repeated measurements of one thing, and what is said of them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: The part of a run at its beginning, and the same at its end, that a steady rate leaves out.
EDGE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One value for each run; `name` is unique in a report, `unit` is for people."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.values)

    @property
    def lowest(self) -> float:
        """The lowest run."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The highest run."""
        return max(self.values)


def percentile(values: Sequence[float], share: float) -> float:
    """
    The smallest value that at least this share (0 to 1) of the values does not exceed (nearest rank).

    Raises ValueError when there are no values.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * round(share * 1_000_000) // 1_000_000)
    return ordered[max(rank - 1, 0)]


def steady_rate(times: Sequence[float]) -> float:
    """
    Events per second in the middle of a run, without its beginning and its end; `times` are in seconds.

    Raises ValueError when there are too few events to speak of a rate.
    """
    ordered = sorted(times)
    first = int(len(ordered) * EDGE)
    last = len(ordered) - 1 - first
    if last <= first or ordered[last] <= ordered[first]:
        raise ValueError(f"{len(ordered)} events in no time at all make no rate")
    return (last - first) / (ordered[last] - ordered[first])
