"""What becomes of a handler's work: its answer, its error, and what is left of it when it was told to end."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.workers import handler_call
from agent_service.workers.handler_call import (
    CallLeftAloneError,
    CallOverdueError,
    CallStoppedError,
)
from tests.support.handler_attempt import (
    ANSWER,
    DEADLINE_SECONDS,
    SHORT,
    Attempt,
    nobody_waits_any_more,
    waiting,
)


def stopped_already() -> Attempt:
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stopped.set_result(None)
    return Attempt(stopped=stopped)


async def answering() -> BaseServiceAnswer:
    return ANSWER


async def until_told(told: list[bool]) -> BaseServiceAnswer:
    """Wait for ever, and note that it was told to end."""
    try:
        return await waiting()
    finally:
        told.append(True)


class Stubborn:
    """Goes on until it is let go, whatever it is told."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def __call__(self) -> BaseServiceAnswer:
        while not self.let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()
        return ANSWER


async def test_the_answer_is_handed_on() -> None:
    assert await Attempt().answer(answering()) is ANSWER


async def test_the_handler_works_in_the_task_that_waits_for_it() -> None:
    async def who(*_: object) -> Any:
        return asyncio.current_task()

    task: Any = await Attempt().answer(who())
    assert task is asyncio.current_task()


async def test_an_answer_that_needs_no_waiting_is_taken_although_it_was_stopped() -> None:
    assert await stopped_already().answer(answering()) is ANSWER
    await asyncio.sleep(0)
    assert nobody_waits_any_more()


async def test_a_handler_that_answers_when_it_is_told_to_end_has_answered() -> None:
    async def answers_at_last() -> BaseServiceAnswer:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ANSWER

    assert await stopped_already().answer(answers_at_last()) is ANSWER
    assert nobody_waits_any_more()
    # When its time is over that does not help.
    with pytest.raises(CallOverdueError):
        await Attempt(within=SHORT).answer(answers_at_last())
    assert nobody_waits_any_more()


@pytest.mark.parametrize(
    ("make", "error"),
    [(stopped_already, CallStoppedError), (lambda: Attempt(within=SHORT), CallOverdueError)],
    ids=["stopped", "overdue"],
)
async def test_what_is_told_to_end_has_ended_when_it_can(
    make: Callable[[], Attempt], error: type[Exception]
) -> None:
    told: list[bool] = []
    with pytest.raises(error):
        await make().answer(until_told(told))
    assert told == [True]
    # What comes next in this task is not cancelled.
    assert nobody_waits_any_more()
    await asyncio.sleep(0)


async def test_what_was_stopped_and_makes_trouble_was_stopped_all_the_same() -> None:
    async def troublesome() -> BaseServiceAnswer:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("there was no need for that")

    with pytest.raises(CallStoppedError):
        await stopped_already().answer(troublesome())


@pytest.mark.parametrize(
    ("make", "error"),
    [(stopped_already, CallStoppedError), (lambda: Attempt(within=SHORT), CallOverdueError)],
    ids=["stopped", "overdue"],
)
async def test_what_does_not_end_is_left_alone_in_its_task(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Attempt], error: type[Exception]
) -> None:
    monkeypatch.setattr(handler_call, "TO_END", SHORT)
    stubborn, attempt = Stubborn(), make()
    task = asyncio.create_task(attempt.answer(stubborn()))
    async with asyncio.timeout(DEADLINE_SECONDS):
        why, its_task = await attempt.left_alone
    assert (type(why), its_task, task.done()) == (error, task, False)
    stubborn.let_go.set()
    # Whatever it ends with now, its attempt has ended before.
    with pytest.raises(CallLeftAloneError):
        await task


async def test_what_runs_outside_of_the_event_loop_and_answers_after_all_has_answered() -> None:
    class Uncancellable(asyncio.Future[BaseServiceAnswer]):
        def cancel(self, msg: object = None) -> bool:
            asyncio.get_running_loop().call_soon(self.set_result, ANSWER)
            return False

    assert await stopped_already().answer(Uncancellable()) is ANSWER
    assert nobody_waits_any_more()


async def test_whoever_is_cancelled_while_waiting_tells_the_handler() -> None:
    told: list[bool] = []
    task = asyncio.create_task(Attempt().answer(until_told(told)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == [True]


async def test_a_stop_and_a_cancellation_in_the_same_moment_end_the_whole_attempt() -> None:
    attempt = Attempt()
    task = asyncio.create_task(attempt.answer(waiting()))
    await asyncio.sleep(0)
    attempt.stopped.set_result(None)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_what_would_end_the_process_is_an_error_of_the_handler(error: type[BaseException]) -> None:
    async def broken() -> BaseServiceAnswer:
        raise error

    with pytest.raises(BaseServiceUnavailable) as caught:
        await Attempt().answer(broken())
    assert caught.value.code == "handler_error"
    assert error is asyncio.CancelledError or error.__name__ in str(caught.value)


def test_an_attempt_whose_event_loop_has_ended_can_be_collected() -> None:
    async def begin() -> Any:
        waits = Attempt()._call.answer(waiting())
        waits.send(None)
        return waits

    waits = asyncio.run(begin())
    # It would complain if what closes it was taken for something that the handler raised.
    waits.close()


@pytest.mark.parametrize("error", [MemoryError, RecursionError, TimeoutError, KeyError])
async def test_an_error_of_the_handler_is_raised_as_it_is(error: type[Exception]) -> None:
    async def broken() -> BaseServiceAnswer:
        raise error

    with pytest.raises(error):
        await Attempt().answer(broken())
