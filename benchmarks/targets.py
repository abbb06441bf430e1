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
    "throughput 20 ms: worker / bare client": at_least(0.85),
    "throughput 100 ms: worker / bare client": at_least(0.97),
    "throughput 20 ms: worker / Redis Streams": at_least(1.3),
    "noop: worker / taskiq": at_least(1.7),
    "noop: worker, processor time": at_most(0.15),
    "noop: mongod, processor time": at_most(0.17),
    "claims: batch / naive, 32 claimers": at_least(8),
    "claims: batch at the largest backlog / at 1,000": at_least(0.9),
    "lines: 10,000 organizations / one": at_least(0.5),
    "idle: commands per worker process": at_most(0.6),
    "idle: queries per single insert, 8 processes": at_most(3),
    "fleet: beside 16 of another service / beside none": at_least(0.95),
    "fleet: beside 64 of another service / beside none": at_least(0.9),
    "fleet: mongod beside 16 of another service / beside none": at_most(1.15),
    "growth: 2 processes / 1 process": at_least(1.98),
    "growth: 4 processes / 1 process": at_least(3.3),
    "endurance: claim time, last minute / first": at_most(1.2),
    "endurance: claim after a burst, slowest minute": at_most(2),
    "ingest: one lone submission / floor": at_least(0.9),
    "ingest: HTTP, 64 clients": at_least(3_500),
    "ingest: HTTP, batches of 1,000": at_least(14_000),
    "ingest: in process, batches of 1,000": at_least(15_000),
    "memory: worker, idle": at_most(70),
    "memory: worker, after 100,000 contexts": at_most(90),
    "memory: worker, 190 kB outputs, most": at_most(160),
}
