"""Waiting: a model of what is pending in the lines of a database."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent_service.domain.line import Candidate, Line
from agent_service.workers.line_looks import Seen
from agent_service.workers.roll import Choice


@dataclass
class Waiting:
    """What is pending, as MongoDB would have it."""

    lines: dict[Line, set[Candidate]] = field(default_factory=dict)
    submitted: int = 0

    def submit(self, line: Line, rank: int) -> Candidate:
        self.submitted += 1
        candidate = Candidate(f"c{self.submitted}", rank)
        self.lines.setdefault(line, set()).add(candidate)
        return candidate

    def first(self, line: Line, count: int) -> list[Candidate]:
        """The first ones of a line."""
        return sorted(self.lines.get(line, ()), key=_order)[:count]

    def heads(self) -> dict[Line, Candidate]:
        return {line: min(waiting, key=_order) for line, waiting in self.lines.items() if waiting}

    def seen(self) -> Seen:
        """What a look finds, which comes to all lines."""
        heads = self.heads()
        return Seen(heads=heads, parts={(line.queue, line.priority): (None, None) for line in heads})

    def read(self, choice: Choice) -> list[list[Candidate]]:
        return [
            sorted(
                (each for each in self.lines.get(stretch.line, ()) if each.rank >= stretch.since),
                key=_order,
            )[stretch.skip : stretch.skip + stretch.limit]
            for stretch in choice.stretches
        ]

    def claim(self, candidates: Sequence[Candidate]) -> list[tuple[Line, Candidate]]:
        """Take what is there of these."""
        taken = [
            (line, each) for each in candidates for line, waiting in self.lines.items() if each in waiting
        ]
        for line, each in taken:
            self.lines[line].discard(each)
        return taken

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))


def _order(candidate: Candidate) -> tuple[int, str]:
    return candidate.rank, candidate.id
