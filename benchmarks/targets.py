"""Targets: what a figure has to reach, by the name of the figure."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound of a figure's median; `above` if more is better."""

    bound: float
    above: bool

    def allows(self, value: float) -> bool:
        """Whether a value keeps to the bound."""
        return value >= self.bound if self.above else value <= self.bound

    def met_by(self, figure: Figure) -> bool:
        """Whether the median keeps to the bound."""
        return self.allows(figure.median)

    def __str__(self) -> str:
        return f"{'≥' if self.above else '≤'} {self.bound:,g}"


def at_least(bound: float) -> Target:
    """More is better."""
    return Target(bound=bound, above=True)


def at_most(bound: float) -> Target:
    """Less is better."""
    return Target(bound=bound, above=False)


TARGETS: Mapping[str, Target] = {
    "throughput 20 ms: worker / bare client": at_least(0.80),
    "throughput 100 ms: worker / bare client": at_least(0.97),
    "throughput 20 ms: worker / Redis Streams": at_least(1.4),
    "noop: worker": at_least(5_000),
    "noop: worker / taskiq": at_least(2),
    "claims: batch / naive, 32 claimers": at_least(8),
    "claims: batch at the largest backlog / at 1,000": at_least(0.9),
    "latency: acknowledged to call received, p50": at_most(4),
    "latency: acknowledged to call received, p99": at_most(15),
    "idle: commands per worker process": at_most(0.5),
    "idle: queries per single insert, 8 processes": at_most(3),
    "endurance: claim time, last minute / first": at_most(1.2),
    "endurance: claim after a burst, slowest minute": at_most(2),
    "ingest: one lone submission / floor": at_least(0.9),
    "memory: worker, idle": at_most(70),
}
