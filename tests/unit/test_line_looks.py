"""LineLooks: a round of looks comes to every line, however many there are of each priority, and then ends."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.line import Candidate, Line
from agent_service.store.lines import Heads, LineCollection
from agent_service.workers.line_looks import LineLooks
from agent_service.workers.roll import Roll
from tests.support.contexts import NOW


class ManyLines:
    """Something waits in so many lines of each priority."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.lines = {
            priority: [Line("generation", "default", priority, f"{number:04}") for number in range(count)]
            for priority, count in enumerate(counts)
        }
        self.unavailable: int | None = None

    async def priorities(self, service: str, queue: str) -> tuple[list[Any], list[int]]:
        return [], list(self.lines)

    async def heads(
        self, service: str, queue: str, priority: int, *, after: str | None, up_to: str | None
    ) -> Heads:
        if priority == self.unavailable:
            raise StoreUnavailable("no answer")
        waiting = [
            line
            for line in self.lines[priority]
            if (after is None or line.organization_id > after)
            and (up_to is None or line.organization_id <= up_to)
        ]
        return Heads(first={line: Candidate("c", 1) for line in waiting}, odd=[])

    @property
    def all(self) -> set[Line]:
        return {line for lines in self.lines.values() for line in lines}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_service.workers.line_looks.MOST_AT_ONCE", 10)


def looks_at(lines: ManyLines) -> LineLooks:
    return LineLooks(cast(LineCollection, lines), service="generation", queues=["default"])


async def a_round(looks: LineLooks) -> list[set[Line]]:
    """What each look saw until a round is over."""
    seen = [set((await looks.look()).heads)]
    while looks.unfinished:
        seen.append(set((await looks.look()).heads))
        assert len(seen) < 100, "the round does not end"
    return seen


async def test_a_round_ends_with_the_last_part_of_the_priority_that_has_most() -> None:
    lines = ManyLines([75, 105, 125, 3])
    looks = looks_at(lines)
    await a_round(looks)
    for _ in range(3):
        seen = await a_round(looks)
        assert len(seen) == 13
        assert set().union(*seen) == lines.all
        # Of each priority, a line that comes early is seen again and again.
        assert all({line.priority for line in each} == {0, 1, 2, 3} for each in seen)


async def test_a_round_that_was_broken_off_comes_to_every_line_all_the_same() -> None:
    lines = ManyLines([25, 75])
    looks = looks_at(lines)
    await a_round(looks)
    for _ in range(5):
        await looks.look()
    lines.unavailable = 1
    with pytest.raises(StoreUnavailable):
        await looks.look()
    lines.unavailable = None
    # What is wanted after trouble is the round after this one.
    await a_round(looks)
    assert set().union(*await a_round(looks)) == lines.all


async def test_a_round_ends_while_lines_come_and_go() -> None:
    lines = ManyLines([75, 45])
    looks = looks_at(lines)
    await a_round(looks)
    await looks.look()
    lines.lines[1] = []
    del lines.lines[0][30:]
    lines.lines[2] = [Line("generation", "default", 2, f"{number:04}") for number in range(35)]
    seen = set().union(*await a_round(looks))
    assert {line for line in lines.all if line.priority == 2} <= seen
    assert set().union(*await a_round(looks)) == lines.all


async def test_a_look_at_a_part_says_nothing_of_what_follows_in_the_lines_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent_service.workers.roll._MOST_DEEP", 3)
    lines = ManyLines([15])
    looks, roll = looks_at(lines), Roll(["default"], now=lambda: NOW)
    await a_round(looks)
    roll.see(await looks.look(), told=roll.told)
    while roll:
        roll.found(roll.choose(4), [])
    del lines.lines[0][10:]
    roll.see(await looks.look(), told=roll.told)
    assert not roll
    assert roll.may_go_on
