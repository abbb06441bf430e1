"""Answers about keys are asked for again after a while, and serve longer while nobody can be asked."""

import asyncio
from datetime import timedelta

import pytest

from agent_service.domain.errors import StoreUnavailable
from agent_service.keys.memory import Memory


class Oracle:
    """Answers with a number that grows, unless it is away; time is what the test says."""

    def __init__(self, *, most: int = 10) -> None:
        self.now = 0.0
        self.away = False
        self.asked = 0
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.memory = Memory[int](
            fresh=timedelta(seconds=3),
            usable=timedelta(seconds=10),
            most=most,
            monotonic=lambda: self.now,
        )

    async def answer(self) -> int:
        self.asked += 1
        self.was_asked.set()
        number = self.asked
        await self.may_answer.wait()
        if self.away:
            raise StoreUnavailable("away")
        return number

    async def recall(self, question: str = "q") -> int:
        return await self.memory.recall(question, self.answer)


async def test_an_answer_is_asked_for_again_once_it_is_no_longer_fresh() -> None:
    oracle = Oracle()
    assert [await oracle.recall(), await oracle.recall()] == [1, 1]
    oracle.now = 3
    assert await oracle.recall() == 2


async def test_while_nobody_can_be_asked_an_answer_serves_until_it_is_too_old() -> None:
    oracle = Oracle()
    await oracle.recall()
    oracle.away, oracle.now = True, 9.9
    assert await oracle.recall() == 1
    oracle.now = 10
    with pytest.raises(StoreUnavailable):
        await oracle.recall()
    with pytest.raises(StoreUnavailable):
        await oracle.recall("another")


async def test_while_one_asks_again_the_others_take_what_is_known() -> None:
    oracle = Oracle()
    await oracle.recall()
    oracle.now = 5
    oracle.may_answer.clear()
    oracle.was_asked.clear()
    asking = asyncio.create_task(oracle.recall())
    await oracle.was_asked.wait()
    assert await oracle.recall() == 1
    oracle.may_answer.set()
    assert await asking == 2
    assert oracle.asked == 2


async def test_only_so_many_answers_are_kept() -> None:
    oracle = Oracle(most=2)
    for question in ("a", "b", "c"):
        await oracle.recall(question)
    assert await oracle.recall("c") == 3
    assert await oracle.recall("b") == 2
    assert await oracle.recall("a") == 4
