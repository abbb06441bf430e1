"""What is run in a thread, and what becomes of a thread whose event loop has ended."""

import asyncio
import functools
import threading
from typing import Any

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.errors import LeaseLost
from agent_service.workers.threaded_handler import BlockingOnDelta, ThreadedHandler, is_plain_function

DEADLINE_SECONDS = 20.0


def test_a_decorated_handler_is_what_it_decorates() -> None:
    async def asynchronous(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        raise NotImplementedError

    def plain(call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
        raise NotImplementedError

    @functools.wraps(asynchronous)
    def decorated(*arguments: Any) -> Any:
        return asynchronous(*arguments)

    assert [is_plain_function(handler) for handler in (asynchronous, plain, decorated)] == [
        False,
        True,
        False,
    ]


def test_a_thread_that_outlives_its_event_loop_harms_nobody() -> None:
    streamed_after, go_on, done = threading.Event(), threading.Event(), threading.Event()
    refusals: list[BaseException] = []

    def handle(call: Any, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
        assert go_on.wait(DEADLINE_SECONDS)
        try:
            on_delta("late")
        except LeaseLost as error:
            refusals.append(error)
        streamed_after.set()
        done.set()
        return BaseServiceAnswer(output="late")

    async def begin() -> None:
        async def on_delta(delta: str) -> None:
            raise AssertionError("the loop has ended")

        call: Any = type("Call", (), {"context_id": "one"})
        left_alone = ThreadedHandler(handle)(call, on_delta)
        assert not left_alone.done()

    asyncio.run(begin())
    go_on.set()
    assert done.wait(DEADLINE_SECONDS)
    assert len(refusals) == 1
