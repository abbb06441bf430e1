"""Standing: what one worker knows of one line."""

from dataclasses import dataclass, field

from agent_service.domain.line import Candidate, Line

#: What is served together: the place of the queue among those of a worker, and the priority, aged.
Level = tuple[int, float]

#: Contexts of a line that are known by their ids; of more it is known that there are some.
_MOST_NAMED = 1_000


@dataclass(slots=True, eq=False)
class Standing:
    """
    Where a line is read from, and what of it is known besides.

    What waits in it and is neither `named` nor found by reading from `since` on is found by a later look.
    """

    line: Line
    level: Level
    #: The rank from which on the line is read.
    since: int | None = None
    #: Whether something may wait from there on.
    deep: bool = False
    #: Contexts to be claimed by their ids, with their ranks: told by a notification, or seen at the head.
    named: dict[str, int] = field(default_factory=dict)
    #: How much had been told to the roll when this line was told of last.
    told: int = 0
    #: The head that a look found last, since the line was empty.
    _head: str | None = None
    #: Whether that look found something before `since` that nobody told of.
    _late: bool = False

    @property
    def servable(self) -> bool:
        """Whether something may wait in it."""
        return self.deep or bool(self.named)

    @property
    def oldest(self) -> int:
        """The rank of what has waited longest, as far as it is known. Only of what is servable."""
        ranks = [*self.named.values()]
        if self.deep and self.since is not None:
            ranks.append(self.since)
        return min(ranks)

    def reaches(self, rank: int) -> bool:
        """Whether reading comes to this rank."""
        return self.deep and self.since is not None and rank >= self.since

    def name(self, candidate: Candidate) -> None:
        """This one waits, wherever the line is read from."""
        self.named[candidate.id] = candidate.rank
        if len(self.named) > _MOST_NAMED:
            self.read_from(min(self.named.values()))
            self.named.clear()

    def read_from(self, rank: int) -> None:
        """Some wait from this rank on."""
        # Nothing waits behind `since` while it is not deep, so the keys of what did need not be walked over.
        self.since = min(self.since, rank) if self.deep and self.since is not None else rank
        self.deep = True

    def take_named(self, most: int) -> list[Candidate]:
        """Up to so many of those that are known by their ids, the first ones; they are not known any more."""
        first = sorted(self.named.items(), key=lambda item: item[1])[:most]
        for context_id, _ in first:
            del self.named[context_id]
        return [Candidate(context_id, rank) for context_id, rank in first]

    def see(self, head: Candidate, *, deep: bool) -> None:
        """A look found this at the head; `deep` if the line is to be read whatever waits there."""
        before, self._head = self._head, head.id
        if self.since is None or head.rank >= self.since:
            self.since, self._late = head.rank, False
            if deep or before not in (None, head.id):
                self.deep = True
            else:
                self.name(head)
        elif head.id not in self.named:
            # Where that happens twice there may be many like it.
            if self._late:
                self.read_from(head.rank)
            self.name(head)
            self._late = not self._late

    def drained(self) -> None:
        """Nothing waits from `since` on."""
        self.deep, self._head = False, None
