"""Report: what a soak did and found, as JSON and as text."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.faults.soak.log_watch import DROPPED_ATTEMPTS, REFUSED_WRITES, LogWatch
from tests.faults.soak.memory import MEGABYTE, Growth, growth_of
from tests.faults.soak.samples import CollectionSize, Sample
from tests.faults.soak.stage import VETERANS
from tests.faults.support.counts import Counts


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything that is worth telling; it is filled while the soak goes on."""

    seed: int
    minutes: float
    rate: float
    #: Troubles by kind.
    troubles: Counter[str] = field(default_factory=Counter)
    elections: int = 0
    clients: Counter[str] = field(default_factory=Counter)
    #: Requests by the status that they ended with, acknowledged or not.
    ended: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    #: Seconds until nothing was left to do after the troubles were over, of each round.
    drained_in: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    #: What nobody should meet: strange answers, readers that were not told of an end, failed endings.
    surprises: list[str] = field(default_factory=list)
    #: How often a service did work that it had done before, which is allowed.
    duplicates: int = 0
    #: Ends that were not written, because their lease had gone to another; attempts that noticed it sooner.
    refused_writes: int = 0
    dropped_attempts: int = 0
    #: Calls that a worker sent when it was woken, which it had been about to send when it was stopped.
    late_calls: int = 0
    log_levels: Counter[str] = field(default_factory=Counter)
    log_messages: Counter[str] = field(default_factory=Counter)
    odd_log_lines: list[str] = field(default_factory=list)
    growth: dict[str, Growth] = field(default_factory=dict)
    samples: Sequence[Sample] = ()

    def add(self, counts: Counts) -> None:
        """Add what was counted in one round."""
        self.counts.update(asdict(counts))

    def take_logs(self, logs: LogWatch) -> None:
        """Take what the logs said."""
        logs.look()
        self.log_levels, self.log_messages, self.odd_log_lines = logs.levels, logs.messages, logs.odd
        self.refused_writes = logs.messages[f"WARNING {REFUSED_WRITES}"]
        self.dropped_attempts = logs.messages[f"WARNING {DROPPED_ATTEMPTS}"]

    def take_samples(self, samples: Sequence[Sample]) -> None:
        """Take the samples, and judge the memory of those who were there all the time."""
        self.samples = samples
        for name in VETERANS:
            sizes = [(s.second, s.processes[name].resident) for s in samples if name in s.processes]
            growth = growth_of(sizes)
            if growth is not None:
                self.growth[name] = growth

    @property
    def failures(self) -> list[str]:
        """Why the run failed; empty if it did not."""
        grown = [
            f"the memory of {name} grows without end: {growth.late_pace * 60 / MEGABYTE:.2f} MB a minute"
            for name, growth in self.growth.items()
            if growth.without_end
        ]
        return [*self.violations, *self.surprises, *grown, *self.odd_log_lines]

    def write(self, folder: Path) -> None:
        """Write `report.json` and `report.txt`."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "samples"}
        ends = [asdict(sample) for sample in _ends(self.samples)]
        told["growth"] = {name: asdict(growth) for name, growth in self.growth.items()}
        document = {**told, "failures": self.failures, "first_and_last_sample": ends}
        (folder / "report.json").write_text(json.dumps(document, indent=2, default=str), encoding="utf-8")
        (folder / "report.txt").write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The report for people."""
        counts = self.counts
        lines = [
            f"seed {self.seed}, {self.minutes:g} minutes, {self.rate:g} requests a second",
            f"troubles: {self.troubles.total()} ({_listed(self.troubles)}); elections: {self.elections}",
            f"requests: {counts['requests']} stored, {counts['acknowledged']} acknowledged; "
            f"ended: {_listed(self.ended)}",
            f"clients: {_listed(self.clients)}",
            f"calls: {counts['calls']} of {counts['claims']} attempts; of contexts called before "
            f"{counts['repeated_calls']}, at the same time as a later one {counts['overlapping_calls']}; "
            f"duplicates executed {self.duplicates}, sent late by a worker that woke up {self.late_calls}",
            f"attempts taken back: {counts['reclaims']}, handed back: {counts['releases']}; "
            f"late writes refused: {self.refused_writes}, attempts dropped: {self.dropped_attempts}, "
            f"late chunks: {counts['late_chunks']}",
            f"drained after each round in {', '.join(f'{seconds:.0f} s' for seconds in self.drained_in)}",
            f"log lines: {_listed(self.log_levels)}",
            *(f"  {count} times {message}" for message, count in self.log_messages.most_common(25)),
            *(_grown(name, growth) for name, growth in self.growth.items()),
            *_sizes(self.samples),
            f"violations: {len(self.violations)}; failures: {len(self.failures)}",
            *(f"  {failure}" for failure in self.failures[:60]),
        ]
        return "\n".join(lines) + "\n"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _grown(name: str, growth: Growth) -> str:
    return (
        f"memory of {name}: {growth.first / MEGABYTE:.1f} MB after a minute, {growth.last / MEGABYTE:.1f} MB "
        f"at the end; {growth.pace * 60 / MEGABYTE:+.3f} MB a minute, in the second half "
        f"{growth.late_pace * 60 / MEGABYTE:+.3f}"
    )


def _ends(samples: Sequence[Sample]) -> list[Sample]:
    whole = [sample for sample in samples if sample.collections]
    return [whole[0], whole[-1]] if whole else []


def _sizes(samples: Sequence[Sample]) -> list[str]:
    """Connections, files and sizes at the beginning and at the end."""
    ends = _ends(samples)
    if not ends:
        return []
    lines = [f"connections: {' → '.join(_listed(sample.connections) for sample in ends)}"]
    for name in ends[-1].processes:
        found = [sample.processes[name] for sample in ends if name in sample.processes]
        steps = [f"{f.resident / MEGABYTE:.0f} MB, {f.open_files} files, {f.threads} threads" for f in found]
        lines.append(f"{name}: {' → '.join(steps)}")
    for name in ends[-1].collections:
        steps = [_size(sample.collections[name]) for sample in ends if name in sample.collections]
        lines.append(f"{name}: {' → '.join(steps)}")
    operations: list[Any] = [sample.operations_per_second for sample in samples[1:]]
    if operations:
        mean = sum(operations) / len(operations)
        lines.append(f"operations per second: {mean:.0f} on average, {max(operations):.0f} at most")
    return lines


def _size(size: CollectionSize) -> str:
    indexes = ", ".join(f"{name} {bytes_ // 1024}" for name, bytes_ in sorted(size.indexes.items()))
    return f"{size.documents} documents, {size.data // 1024} KB, indexes (KB): {indexes}"
