"""Standing: what one worker knows of one line."""

from dataclasses import dataclass, field

from agent_service.domain.line import Candidate, Line

#: What is served together: the place of the queue among those of a worker, and the priority, aged.
Level = tuple[int, float]

#: Contexts of a line that are known by their ids; of more it is known from which rank on they wait.
_MOST_NAMED = 32
#: Behind every rank, which is an integer of 64 bits to MongoDB.
NO_RANK = 2**63


@dataclass(slots=True, eq=False)
class Standing:
    """
    Where a line is read from, and what of it is known besides.

    What waits in it and is neither `named` nor found by reading from `since` on is found by a later look.
    """

    line: Line
    level: Level
    #: The rank from which on the line is read.
    since: int = 0
    #: Whether something may wait from there on.
    deep: bool = False
    #: Contexts to be claimed by their ids, with their ranks: told by a notification, or seen at the head.
    named: dict[str, int] = field(default_factory=dict)
    #: How much had been told to the roll when this line was told of last.
    told: int = 0
    #: The smallest rank from `since` on that was told of since the line was read last.
    unread: int = NO_RANK
    #: Whether something of it was claimed since a look last saw it.
    served: bool = False
    #: Whether that look told of its head alone, and more may wait where it is not read.
    beyond: bool = False

    @property
    def servable(self) -> bool:
        """Whether something may wait in it."""
        return self.deep or bool(self.named)

    @property
    def oldest(self) -> int:
        """The rank of what has waited longest, as far as it is known. Only of what is servable."""
        ranks = [*self.named.values(), self.since] if self.deep else self.named.values()
        return min(ranks)

    def reaches(self, rank: int) -> bool:
        """Whether reading comes to this rank."""
        return self.deep and rank >= self.since

    def name(self, candidate: Candidate) -> None:
        """This one waits, wherever the line is read from."""
        self.named[candidate.id] = candidate.rank
        if len(self.named) > _MOST_NAMED:
            self.read_from(min(self.named.values()))
            self.named.clear()

    def read_from(self, rank: int) -> None:
        """Some wait from this rank on."""
        # Nothing waits behind `since` while it is not deep, so the keys of what did need not be walked over.
        self.since = min(self.since, rank) if self.deep else rank
        self.deep = True

    def take_named(self, most: int) -> list[Candidate]:
        """Up to so many of those that are known by their ids, the first ones; they are not known any more."""
        first = sorted(self.named.items(), key=lambda item: (item[1], item[0]))[:most]
        for context_id, _ in first:
            del self.named[context_id]
        return [Candidate(context_id, rank) for context_id, rank in first]

    def see(self, head: Candidate, *, deep: bool) -> None:
        """A look found this to be the first that waits; `deep` if the line is to be read whatever follows."""
        # Others have claimed what stood before it.
        self.named = {each: rank for each, rank in self.named.items() if rank >= head.rank}
        self.name(head)
        # Also where it stands before what was read: as nobody told of it, there may be more of its kind.
        self.since = head.rank
        # What goes on after some of it was claimed may go on for long.
        self.deep = self.deep or deep or self.served
        self.beyond = not self.deep
        self.served = False

    def drained(self) -> None:
        """Nothing waits from `since` on."""
        self.deep = False

    def empty(self) -> None:
        """Nothing waits in it."""
        self.deep = self.beyond = self.served = False
        self.named.clear()
