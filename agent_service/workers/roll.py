"""
Roll: the lines that one worker may claim from, and which of them comes next.

Nothing depends on its being right: what it does not know of is found by the next look at the heads of lines,
and what it is wrong about is not there when it is claimed.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from agent_service.domain.line import Candidate, Line
from agent_service.store.lines import Stretch, is_integer
from agent_service.workers.line_looks import Seen
from agent_service.workers.standing import NO_RANK, Level, Standing

#: One command reads in so many lines at most: in each of them that costs as much as claiming one context.
_MOST_READ = 16
#: Of more lines than these only what stands at their heads is known at first.
_MOST_DEEP = 256
#: In so many lines of each level is looked for what somebody else has claimed.
_MOST_SEARCHED = 64
#: Lines that nothing waits in are forgotten when there are more.
_MOST_LINES = 20_000
#: The highest priority; what has waited for long is served like it, and never before it.
_HIGHEST = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """
    A stretch to be read in a line for so many contexts; `told` is how much had been told to the roll before.
    """

    stretch: Stretch
    wanted: int
    standing: Standing
    told: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to claim next: these contexts, and what reading finds, as far as there is room."""

    named: Sequence[Candidate]
    readings: Sequence[Reading]

    def __bool__(self) -> bool:
        return bool(self.named or self.readings)

    @property
    def stretches(self) -> list[Stretch]:
        """What is to be read."""
        return [reading.stretch for reading in self.readings]


class Roll:
    """
    The lines of one service in some queues, each served when it is its turn.

    A queue comes before the queues after it, and in a queue a smaller priority before a larger one; what has
    waited for n times `ageing` is served as if its priority were smaller by n, where that is not zero.
    Lines of the same queue and priority take turns. Those that `skips` names are passed over, and nothing is
    written of it.
    """

    def __init__(
        self,
        queues: Sequence[str],
        *,
        now: Callable[[], datetime],
        ageing: timedelta = timedelta(0),
        skips: Callable[[Line], bool] = lambda _line: False,
    ) -> None:
        self._places = {queue: place for place, queue in enumerate(queues)}
        self._ageing = ageing
        self._now = now
        self._skips = skips
        self._lines: dict[Line, Standing] = {}
        #: What can be served, by level, the one whose turn is next first.
        self._turns: dict[Level, OrderedDict[Standing, None]] = {}
        #: How often somebody told of something.
        self._told = 0
        #: Whether something was claimed since the last look at all lines, here or elsewhere, of which only
        #: that was known.
        self._behind_heads = False

    def __bool__(self) -> bool:
        """Whether there may be something to claim."""
        return bool(self._turns)

    @property
    def may_go_on(self) -> bool:
        """Whether lines may go on behind what was known of them, so that only a look can tell."""
        return self._behind_heads

    @property
    def told(self) -> int:
        """How often it was told of something, to be compared later."""
        return self._told

    def tell(self, line: Line, rank: int, context_id: str | None = None) -> None:
        """This context became claimable, or several from this rank on."""
        if line.queue not in self._places:
            return
        self._told += 1
        standing = self._standing(line)
        standing.told = self._told
        if standing.reaches(rank):
            # What is read just now may not have it yet.
            standing.unread = min(standing.unread, rank)
        elif context_id is None:
            standing.read_from(rank)
        else:
            standing.name(Candidate(context_id, rank))
        self._admit(standing)

    def taken(self, context_id: str) -> None:
        """Somebody else has claimed this one."""
        known = [each for turns in self._turns.values() for each in islice(turns, _MOST_SEARCHED)]
        for standing in known:
            if standing.named.pop(context_id, None) is not None:
                self._behind_heads |= standing.beyond
                self._admit(standing)

    def see(self, seen: Seen, *, told: int) -> None:
        """What a look found that began when so much had been told."""
        for standing in [each for turns in self._turns.values() for each in turns]:
            line = standing.line
            if line not in seen.heads and standing.told <= told and seen.covers(line):
                standing.empty()
                self._admit(standing)
        lines = [line for line in seen.heads if line.queue in self._places]
        # Each process begins with another one of those that it has not served yet.
        random.shuffle(lines)
        for line in lines:
            standing = self._standing(line)
            if standing.told <= told:
                standing.see(seen.heads[line], deep=len(lines) <= _MOST_DEEP)
            else:
                # What was told meanwhile may stand before what was seen, and what was seen be gone.
                standing.read_from(seen.heads[line].rank)
            self._admit(standing)
        self._age()
        if seen.whole:
            self._behind_heads = False
        if len(self._lines) > _MOST_LINES:
            self._lines = {line: each for line, each in self._lines.items() if each.servable}

    def choose(self, limit: int, *, apart: int = 1) -> Choice:
        """
        Whose turn it is: up to `limit` contexts, and where to read to find so many.

        Where `apart` processes claim at the same time, each begins somewhere else in what it reads.
        """
        named: list[Candidate] = []
        readings: list[Reading] = []
        served = self._next_to_serve(limit)
        for place, standing in enumerate(served):
            share = limit // len(served) + (place < limit % len(served))
            taken = standing.take_named(share)
            named += taken
            standing.served = True
            self._behind_heads |= standing.beyond
            if len(taken) < share and standing.deep and len(readings) < _MOST_READ:
                # What is known by its id is read once more.
                again = sum(each.rank >= standing.since for each in taken)
                readings.append(self._reading(standing, share - len(taken), again, apart))
            # Whoever was served goes to the end of those who take turns.
            self._turns[standing.level].move_to_end(standing)
            self._admit(standing)
        return Choice(named=named, readings=readings)

    def found(self, choice: Choice, waiting: Sequence[Sequence[Candidate]]) -> list[Candidate]:
        """What reading found in each stretch; returns all that can be claimed, in order."""
        candidates = list(choice.named)
        # An odd id may be of any type.
        ids = {repr(each.id) for each in candidates}
        for reading, found in zip(choice.readings, waiting, strict=True):
            # One more than wanted was read, to see whether there is more.
            new = [each for each in found if repr(each.id) not in ids]
            candidates += new[: reading.wanted]
            if not reading.stretch.skip:
                # Where others took what is known by its id, more that is new was read than is wanted.
                more = len(found) == reading.stretch.limit or len(new) > reading.wanted
                # An odd rank may be of any type.
                first = next((each.rank for each in found if is_integer(each.rank)), None)
                self._read(reading, first, more=more)
        return candidates

    def found_first(self, choice: Choice, rank: int | None) -> None:
        """A single claim took the first context of the only stretch, of this rank, or found none there."""
        [reading] = choice.readings
        self._read(reading, rank, more=rank is not None)

    def _read(self, reading: Reading, first: int | None, *, more: bool) -> None:
        standing = reading.standing
        if first is not None and standing.since == reading.stretch.since:
            standing.since = min(first, standing.unread)
        if not more and standing.told <= reading.told:
            standing.drained()
        self._admit(standing)

    def _next_to_serve(self, limit: int) -> list[Standing]:
        """Up to `limit` lines of the first level that has any, of which some have to be read."""
        served: list[Standing] = []
        for level in sorted(self._turns):
            read = 0
            for standing in self._turns[level]:
                if self._skips(standing.line):
                    continue
                read += not standing.named
                if read > _MOST_READ:
                    break
                served.append(standing)
                if len(served) == limit:
                    break
            if served:
                break
        return served

    def _reading(self, standing: Standing, wanted: int, again: int, apart: int) -> Reading:
        skip = random.randrange(wanted * apart) if apart > 1 else 0
        limit = wanted + again + 1
        stretch = Stretch(line=standing.line, limit=limit, since=standing.since, skip=skip)
        standing.unread = NO_RANK
        return Reading(stretch, wanted, standing, self._told)

    def _standing(self, line: Line) -> Standing:
        standing = self._lines.get(line)
        if standing is None:
            standing = self._lines[line] = Standing(line, self._level(line))
        return standing

    def _level(self, line: Line) -> Level:
        return self._places[line.queue], line.priority

    def _admit(self, standing: Standing) -> None:
        """Have it take turns while something may wait in it."""
        turns = self._turns.get(standing.level)
        if standing.servable:
            if turns is None or standing not in turns:
                # What it had aged to is over with what had waited for long.
                standing.level = self._level(standing.line)
                turns = self._turns.setdefault(standing.level, OrderedDict())
            turns.setdefault(standing)
        elif turns is not None:
            self._dismiss(standing)

    def _dismiss(self, standing: Standing) -> None:
        turns = self._turns[standing.level]
        turns.pop(standing, None)
        if not turns:
            del self._turns[standing.level]

    def _age(self) -> None:
        """Have lines of which something has waited for long take turns with those of a smaller priority."""
        if not self._ageing:
            return
        now = int(self._now().timestamp() * 1_000_000)
        step = int(self._ageing.total_seconds() * 1_000_000)
        for standing in [each for turns in self._turns.values() for each in turns]:
            place, level = standing.level
            waited = max(now - standing.oldest, 0)
            priority = standing.line.priority
            aged = max(priority - waited // step, _HIGHEST) if priority > _HIGHEST else priority
            if aged != level:
                self._dismiss(standing)
                standing.level = (place, aged)
                self._turns.setdefault(standing.level, OrderedDict())[standing] = None
