"""What becomes of cancellations that a handler leaves behind in the task of its attempt."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.workers.handler_call import CallOverdueError, CallStoppedError
from tests.support.handler_attempt import ANSWER, SHORT, Attempt, nobody_waits_any_more, waiting


def stopped_later() -> Attempt:
    attempt = Attempt()
    asyncio.get_running_loop().call_later(SHORT.total_seconds(), attempt.stopped.set_result, None)
    return attempt


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def with_a_failed_group() -> None:
    """What leaves a cancellation behind before Python 3.13."""

    async def fails_later() -> None:
        await asyncio.sleep(0)
        raise ValueError

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails_later())
            group.create_task(asyncio.Event().wait())


async def waiting_after_a_failed_group() -> BaseServiceAnswer:
    await with_a_failed_group()
    return await waiting()


@pytest.mark.parametrize(
    ("make", "error"),
    [(stopped_later, CallStoppedError), (lambda: Attempt(within=SHORT), CallOverdueError)],
    ids=["stopped", "overdue"],
)
async def test_what_was_cancelled_in_passing_is_told_to_end_like_any_other(
    make: Callable[[], Attempt], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await make().answer(waiting_after_a_failed_group())
    assert nobody_waits_any_more()
    await asyncio.sleep(0)


async def test_whoever_cancels_a_task_whose_handler_was_cancelled_in_passing_ends_the_attempt() -> None:
    attempt = Attempt()
    task = asyncio.create_task(attempt.answer(waiting_after_a_failed_group()))
    asyncio.get_running_loop().call_later(SHORT.total_seconds(), task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def answering_after_a_failed_group() -> BaseServiceAnswer:
    await with_a_failed_group()
    return ANSWER


async def cancelling_itself_at_last() -> BaseServiceAnswer:
    cancel_this_task()
    return ANSWER


@pytest.mark.parametrize("handler", [answering_after_a_failed_group, cancelling_itself_at_last])
async def test_what_comes_after_a_handler_is_not_cancelled_by_what_it_left_behind(
    handler: Callable[[], Awaitable[BaseServiceAnswer]],
) -> None:
    assert await Attempt().answer(handler()) is ANSWER
    assert nobody_waits_any_more()
    await asyncio.sleep(0)


async def test_an_error_leaves_no_cancellation_behind_either() -> None:
    async def broken() -> BaseServiceAnswer:
        cancel_this_task()
        raise KeyError

    with pytest.raises(KeyError):
        await Attempt().answer(broken())
    assert nobody_waits_any_more()
    await asyncio.sleep(0)
