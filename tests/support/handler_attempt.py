"""What waits for a handler in tests that need nothing else of an attempt."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.workers.handler_call import HandlerCall

ANSWER = BaseServiceAnswer(output="done")
LONG, SHORT = timedelta(minutes=5), timedelta(milliseconds=20)
DEADLINE_SECONDS = 10.0


class Attempt:
    """What waits for a handler; `left_alone` gets why it had to go on without, and the handler's task."""

    def __init__(self, *, stopped: asyncio.Future[None] | None = None, within: timedelta = LONG) -> None:
        self.stopped = stopped or asyncio.get_running_loop().create_future()
        self.left_alone: asyncio.Future[tuple[Exception, asyncio.Task[Any]]] = (
            asyncio.get_running_loop().create_future()
        )
        self._call = HandlerCall(
            stopped=self.stopped,
            within=within,
            on_left_alone=lambda why, task: self.left_alone.set_result((why, task)),
        )

    async def answer(self, begun: Awaitable[BaseServiceAnswer]) -> BaseServiceAnswer:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._call.answer(begun)


def nobody_waits_any_more() -> bool:
    """Whether the task is as if nobody had told it anything."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


async def waiting() -> BaseServiceAnswer:
    await asyncio.Event().wait()
    raise AssertionError
