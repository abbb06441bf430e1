"""
taskiq on Redis Streams with its results in Redis, in a process of its own.

`python -m benchmarks.taskiq_queue REDIS_URL --calls 5000 --concurrency 64 [--base-url URL]` fills the queue,
then runs taskiq's own receiver on uvloop, without the checks of parameters that it can do without, and prints
its pace. Without a base service the task returns at once.
"""

import asyncio
import uuid
from typing import Any

from redis.asyncio import Redis
from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.backlog import INPUT
from benchmarks.bare_client import BareClient
from benchmarks.pace import Pace
from benchmarks.queue_arguments import QueueArguments, run_queue

_FILL_AT_ONCE = 200


class Counter(TaskiqMiddleware):
    """Ticks whenever a result was saved; `done` is set after so many."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.pace = Pace()
        self.done = asyncio.Event()
        self._calls = calls

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        if result.is_err:
            raise RuntimeError(f"a task failed: {result.error}")
        self.pace.tick()
        if self.pace.count >= self._calls:
            self.done.set()


async def measure(given: QueueArguments) -> None:
    """Fill the queue, work it off, and tell the pace."""
    async with Redis.from_url(given.server) as redis:
        await redis.flushdb()
    broker = RedisStreamBroker(given.server, consumer_id="0").with_result_backend(
        RedisAsyncResultBackend(given.server)
    )
    client = None if given.base_url is None else BareClient(given.base_url, given.concurrency)

    @broker.task(task_name="work")
    async def work(request_id: str, text: object) -> object:
        return {"text": "done"} if client is None else await client.call(request_id)

    await broker.startup()
    try:
        for start in range(0, given.calls, _FILL_AT_ONCE):
            count = min(_FILL_AT_ONCE, given.calls - start)
            await asyncio.gather(*(work.kiq(str(uuid.uuid4()), INPUT) for _ in range(count)))
        counter = Counter(given.calls)
        broker.add_middlewares(counter)
        receiving = asyncio.create_task(
            run_receiver_task(
                broker,
                validate_params=False,
                max_async_tasks=given.concurrency,
                max_prefetch=given.concurrency,
            )
        )
        ended = asyncio.create_task(counter.done.wait())
        await asyncio.wait({receiving, ended}, return_when=asyncio.FIRST_COMPLETED)
        # At once: its end may take for ever, and whoever waits for the pace ends this process.
        counter.pace.tell()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    finally:
        if client is not None:
            await client.close()
        await broker.shutdown()


if __name__ == "__main__":
    run_queue("taskiq on Redis", measure)
