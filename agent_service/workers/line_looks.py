"""LineLooks: looks at the heads of all lines of a worker, and of very many a part at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.domain.line import Candidate, Line
from agent_service.store.lines import Heads, LineCollection

#: Of more lines of a queue and priority than these one look reads a part.
MOST_AT_ONCE = 1_000

#: Behind which organization a part begins, and which is its last one; None: without end.
Part = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look found."""

    heads: Mapping[Line, Candidate]
    #: The parts that it read, by queue and priority; of no other priority does anything wait.
    parts: Mapping[tuple[str, float], Part]
    #: The ids of contexts that have no place in a line.
    odd: Sequence[Any] = ()

    @property
    def whole(self) -> bool:
        """Whether it came to all lines."""
        return all(part == (None, None) for part in self.parts.values())

    def covers(self, line: Line) -> bool:
        """Whether it would have seen what waits in this line."""
        part = self.parts.get((line.queue, line.priority))
        if part is None:
            return True
        after, up_to = part
        organization_id = line.organization_id
        # MongoDB compares the bytes of UTF-8, whose order is that of the characters' numbers.
        return (after is None or organization_id > after) and (up_to is None or organization_id <= up_to)


class LineLooks:
    """
    Goes on each time where the last look ended, and begins again after the last line.

    A round is over when each queue and priority was looked through from its beginning to its end; those with
    fewer lines are looked through again and again meanwhile.
    """

    def __init__(self, lines: LineCollection, *, service: str, queues: Sequence[str]) -> None:
        self._lines = lines
        self._service = service
        self._queues = queues
        #: By queue and priority.
        self._rounds: dict[tuple[str, float], _Round] = {}

    @property
    def unfinished(self) -> bool:
        """Whether there are lines that looks have not come to in this round."""
        return any(each.unfinished for each in self._rounds.values())

    async def look(self) -> Seen:
        """Look at each queue and priority that something waits with. Raises `StoreUnavailable`."""
        if not self.unfinished:
            for current in self._rounds.values():
                current.begin()
        heads: dict[Line, Candidate] = {}
        odd: list[Any] = []
        parts: dict[tuple[str, float], Part] = {}
        rounds: dict[tuple[str, float], _Round] = {}
        for queue in self._queues:
            found_odd, priorities = await self._lines.priorities(self._service, queue)
            odd += found_odd
            for priority in priorities:
                current = rounds[queue, priority] = self._rounds.get((queue, priority)) or _Round()
                after, up_to = parts[queue, priority] = current.part
                found = await self._lines.heads(self._service, queue, priority, after=after, up_to=up_to)
                current.took(found)
                heads |= found.first
                odd += found.odd
        self._rounds = rounds
        return Seen(heads=heads, parts=parts, odd=odd)


class _Round:
    """A round over the lines of one queue and priority, part by part, by the names of organizations."""

    def __init__(self) -> None:
        #: The last organization of each part but the last, which has no end.
        self._ends: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Begin with the first part, wherever it was."""
        self._place = 0
        #: How many lines it has seen since the first part.
        self._seen = 0
        #: Whether it has not come to the end since.
        self.unfinished = True

    @property
    def part(self) -> Part:
        """The next part."""
        after = self._ends[self._place - 1] if self._place else None
        up_to = self._ends[self._place] if self._place < len(self._ends) else None
        return after, up_to

    def took(self, found: Heads) -> None:
        """The next part is read; the next time it is divided where it is too large."""
        names = sorted(line.organization_id for line in found.first)
        self._seen += len(names)
        divided = names[MOST_AT_ONCE - 1 : -1 : MOST_AT_ONCE]
        self._ends[self._place : self._place] = divided
        self._place += len(divided) + 1
        if self._place > len(self._ends):
            if self._seen <= MOST_AT_ONCE:
                self._ends = []
            self._place = self._seen = 0
            self.unfinished = False
