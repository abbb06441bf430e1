"""What becomes of a handler's work: its answer, its error, and what is left of it when it was told to end."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.workers import handler_call
from agent_service.workers.handler_call import CallOverdueError, CallStoppedError, answer_of, begin_call

ANSWER = BaseServiceAnswer(output="done")
LONG, SHORT = timedelta(minutes=5), timedelta(milliseconds=20)
CALL: Any = None


async def no_delta(delta: str) -> None:
    raise AssertionError("nothing is streamed here")


def begin(handler: Callable[..., Any]) -> asyncio.Future[BaseServiceAnswer]:
    return begin_call(handler, CALL, no_delta)


def never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def at_once() -> asyncio.Future[None]:
    stopped = never()
    stopped.set_result(None)
    return stopped


async def answering(*_: object) -> BaseServiceAnswer:
    return ANSWER


async def waiting(*_: object) -> BaseServiceAnswer:
    await asyncio.Event().wait()
    raise AssertionError


class Stubborn:
    """Goes on until it is let go, whatever it is told."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def __call__(self, *_: object) -> BaseServiceAnswer:
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue
        return ANSWER


async def test_the_answer_is_handed_on() -> None:
    assert await answer_of(begin(answering), stopped=never(), within=LONG) is ANSWER


async def test_an_answer_that_is_there_is_taken_although_it_was_stopped() -> None:
    calling = begin(answering)
    await asyncio.wait({calling})
    assert await answer_of(calling, stopped=at_once(), within=LONG) is ANSWER


async def test_what_was_stopped_has_ended_when_it_can() -> None:
    calling = begin(waiting)
    with pytest.raises(CallStoppedError):
        await answer_of(calling, stopped=at_once(), within=LONG)
    assert calling.cancelled()


async def test_what_was_stopped_and_makes_trouble_was_stopped_all_the_same() -> None:
    async def troublesome(*_: object) -> BaseServiceAnswer:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("there was no need for that")

    with pytest.raises(CallStoppedError):
        await answer_of(begin(troublesome), stopped=at_once(), within=LONG)


@pytest.mark.parametrize(
    ("stopped", "within", "error"), [(at_once, LONG, CallStoppedError), (never, SHORT, CallOverdueError)]
)
async def test_what_does_not_end_is_left_alone_and_can_be_told_from_what_does(
    monkeypatch: pytest.MonkeyPatch,
    stopped: Callable[[], asyncio.Future[None]],
    within: timedelta,
    error: type[Exception],
) -> None:
    monkeypatch.setattr(handler_call, "_TO_END", SHORT)
    stubborn = Stubborn()
    calling = begin(stubborn)
    with pytest.raises(error):
        await answer_of(calling, stopped=stopped(), within=within)
    assert not calling.done()
    stubborn.let_go.set()
    assert await calling is ANSWER


async def test_whoever_is_cancelled_while_waiting_tells_the_handler() -> None:
    calling = begin(waiting)
    attempt = asyncio.create_task(answer_of(calling, stopped=never(), within=LONG))
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.wait({calling})
    assert calling.cancelled()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_what_would_end_the_process_is_an_error_of_the_handler(error: type[BaseException]) -> None:
    async def broken(*_: object) -> BaseServiceAnswer:
        raise error

    with pytest.raises(BaseServiceUnavailable) as caught:
        await answer_of(begin(broken), stopped=never(), within=LONG)
    assert caught.value.code == "handler_error"
    assert error is asyncio.CancelledError or error.__name__ in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError, RecursionError, TimeoutError, KeyError])
async def test_an_error_of_the_handler_is_raised_as_it_is(error: type[Exception]) -> None:
    async def broken(*_: object) -> BaseServiceAnswer:
        raise error

    with pytest.raises(error):
        await answer_of(begin(broken), stopped=never(), within=LONG)
