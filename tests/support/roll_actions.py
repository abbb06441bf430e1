"""What happens to a roll: submissions, looks, claims, and what other workers claim meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
from hypothesis import strategies as st

from agent_service.domain.line import Candidate, Line
from agent_service.workers.roll import Roll
from tests.support.contexts import NOW
from tests.support.waiting_in_lines import Waiting

QUEUES = ("first", "second")
LINES = [
    Line("generation", queue, priority, f"organization-{number}")
    for queue in QUEUES
    for priority in (0, 3)
    for number in range(12)
]
Action = tuple[object, ...]


def a_roll(**options: object) -> Roll:
    return Roll(QUEUES, now=lambda: NOW, **options)  # type: ignore[arg-type]  # of its keyword arguments


def claim(roll: Roll, waiting: Waiting, limit: int) -> list[tuple[Line, Candidate]]:
    """One claim that reads what is known by no id, also where it is to find no more than one."""
    choice = roll.choose(limit)
    return waiting.claim(roll.found(choice, waiting.read(choice)))


def claim_apart(
    roll: Roll,
    waiting: Waiting,
    limit: int,
    *,
    sending: Callable[[], None] = lambda: None,
    answering: Callable[[], None] = lambda: None,
) -> list[tuple[Line, Candidate]]:
    """One claim, and what happens before MongoDB looks, and before the worker hears of what it found."""
    choice = roll.choose(limit)
    sending()
    found = waiting.read(choice)
    if limit > 1 or not choice.readings:
        answering()
        return waiting.claim(roll.found(choice, found))
    claimed = waiting.claim(found[0][:1])
    answering()
    roll.found_first(choice, claimed[0][1].rank if claimed else None)
    return claimed


def drain(roll: Roll, waiting: Waiting, limit: int = 4) -> Iterator[list[tuple[Line, Candidate]]]:
    """Claim until the roll knows of nothing more."""
    while roll:
        yield claim(roll, waiting, limit)


def look(roll: Roll, waiting: Waiting) -> None:
    roll.see(waiting.seen(), told=roll.told)


def tell(roll: Roll, line: Line, candidate: Candidate, *, named: bool) -> None:
    roll.tell(line, candidate.rank, candidate.id if named else None)


def run(actions: Sequence[tuple[object, ...]], roll: Roll, waiting: Waiting) -> None:
    for action in actions:
        match action:
            case ("submit", Line() as line, int(rank), str(told)):
                candidate = waiting.submit(line, rank)
                if told:
                    tell(roll, line, candidate, named=told == "named")
            case ("look", list(meanwhile)):
                seen, told_before = waiting.seen(), roll.told
                run(meanwhile, roll, waiting)
                roll.see(seen, told=told_before)
            case ("others", Line() as line, int(count), str(told)):
                for _, candidate in waiting.claim(waiting.first(line, count)):
                    if told:
                        roll.taken(candidate.id)
            case ("claim", int(limit), list(before), list(after)):
                claim_apart(
                    roll,
                    waiting,
                    limit,
                    sending=partial(run, before, roll, waiting),
                    answering=partial(run, after, roll, waiting),
                )
            case _:
                pytest.fail(f"nobody knows what to do with {action}")


HOW = st.sampled_from(["named", "unnamed", ""])


def submissions(lines: Sequence[Line]) -> st.SearchStrategy[Action]:
    """One context becomes claimable, and the roll is told of it or not."""
    return st.tuples(st.just("submit"), st.sampled_from(lines), st.integers(1, 30), HOW)


def told(lines: Sequence[Line]) -> st.SearchStrategy[Action]:
    """One context becomes claimable, and the roll is told."""
    return submissions(lines).filter(lambda each: bool(each[3]))


def happenings(lines: Sequence[Line]) -> st.SearchStrategy[Action]:
    """Looks, claims, and claims of others, whatever is told between their parts."""
    knows = st.sampled_from(["", "told"])
    others = st.tuples(st.just("others"), st.sampled_from(lines), st.integers(1, 5), knows)
    meanwhile = st.lists(told(lines) | others, max_size=2)
    looks = st.tuples(st.just("look"), meanwhile)
    claims = st.tuples(st.just("claim"), st.integers(1, 5), meanwhile, meanwhile)
    return others | looks | claims
