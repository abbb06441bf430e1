"""
Tally: what one process has done and the fleet's counters have not been told of yet.

Counting is part of every attempt, so it costs a dictionary and a bisection, and needs no library.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from agent_service.domain.context import AttemptOutcome

#: The upper bounds of the buckets of every histogram, in seconds; what is longer goes into one more.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)


class QueueName(NamedTuple):
    """A queue: its service and its own name, which other services may have as well."""

    service: str
    queue: str


class Counted(StrEnum):
    """What is counted besides the ends of attempts; the value is its name in MongoDB."""

    #: A request was stored; it counts for the service and queue of its first step.
    SUBMITTED = "submitted"
    #: A claim took something; one of several queues counts for that of its first context.
    CLAIM = "claims"
    #: A context was claimed.
    CLAIMED = "claimed"
    #: A worker noticed that an attempt's lease was no longer its own.
    LEASE_LOST = "leases_lost"
    #: The rescuer took a context back from a worker that had fallen silent.
    RESCUED = "rescued"

    # That of enumerations is written in Python, and takes longer than all else that counting does.
    __hash__ = str.__hash__


@dataclass(slots=True)
class Histogram:
    """How many lengths of time fell into each bucket, and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Take one; what is below zero, as two clocks may have it, counts as zero."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        if seconds > 0:
            self.sum += seconds

    def add(self, other: "Histogram") -> None:
        """Take all that another one has."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    @property
    def count(self) -> int:
        """How many it has taken."""
        return sum(self.counts)


@dataclass(slots=True)
class WorkCounts:
    """What happened to the work of one queue; every number only ever grows."""

    events: dict[Counted, int] = field(default_factory=dict)
    #: From the moment at which a context could be claimed to that at which it was.
    waits: Histogram = field(default_factory=Histogram)
    #: How long attempts took, by how they ended.
    durations: dict[AttemptOutcome, Histogram] = field(default_factory=dict)

    def count(self, event: Counted, number: int = 1) -> None:
        """Something happened so many times."""
        self.events[event] = self.events.get(event, 0) + number

    def ended(self, outcome: AttemptOutcome, *, waited: float, took: float) -> None:
        """An attempt has ended; both lengths are seconds."""
        self.waits.observe(waited)
        durations = self.durations.get(outcome)
        if durations is None:
            durations = self.durations[outcome] = Histogram()
        durations.observe(took)

    def add(self, other: "WorkCounts") -> None:
        """Take all that another one has."""
        for event, number in other.events.items():
            self.count(event, number)
        self.waits.add(other.waits)
        for outcome, durations in other.durations.items():
            self.durations.setdefault(outcome, Histogram()).add(durations)

    def attempts(self) -> dict[AttemptOutcome, int]:
        """How many attempts ended in each way."""
        return {outcome: durations.count for outcome, durations in self.durations.items()}


class Tally:
    """What was counted and not told yet: by queue, and by loop of this process."""

    def __init__(self) -> None:
        # By plain pairs, which are made sooner than names.
        self._counts: dict[tuple[str, str], WorkCounts] = {}
        #: How often each loop of this process failed.
        self.loop_failures: Counter[str] = Counter()

    def of(self, service: str, queue: str) -> WorkCounts:
        """The counts of a queue, to be added to at once and not to be kept."""
        counts = self._counts.get((service, queue))
        if counts is None:
            counts = self._counts[service, queue] = WorkCounts()
        return counts

    def take(self) -> Iterator[tuple[QueueName, WorkCounts]]:
        """Take the counts of one queue after the other out of it, until nothing is left."""
        while self._counts:
            (service, queue), counts = self._counts.popitem()
            yield QueueName(service, queue), counts

    def loop_failed(self, name: str) -> None:
        """A loop of this process failed once more."""
        self.loop_failures[name] += 1

    def put_back(self, name: QueueName, counts: WorkCounts) -> None:
        """What was taken could not be told."""
        self.of(*name).add(counts)
