"""
Raw Redis Streams: the least that does the same work, in a process of its own.

`python -m benchmarks.redis_streams REDIS_URL BASE_URL --calls 5000 --concurrency 64` fills a stream, and then
measures: XREADGROUP in batches, ahead of the calls; one HTTP call each with the same client; the result
stored and the entry acknowledged in one round trip. No leases, no retries, no events, no request that ends.
"""

import argparse
import asyncio
import uuid
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from agent_service.main import new_event_loop
from benchmarks.backlog import INPUT
from benchmarks.bare_client import BareClient
from benchmarks.pace import Pace

_STREAM, _GROUP, _CONSUMER = "work", "workers", "worker-1"
_BLOCK_MS = 1_000
_FILL_AT_ONCE = 1_000


class StreamWorker:
    """One consumer of one group."""

    # The types of redis do not tell a pipeline, whose commands answer later, from a client.
    def __init__(self, redis: Any, client: BareClient, concurrency: int) -> None:
        self._redis = redis
        self._client = client
        self._concurrency = concurrency
        self._entries: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(concurrency)
        self._pace = Pace()

    async def work_off(self, calls: int) -> Pace:
        """Work until so many entries are done."""
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work()) for _ in range(self._concurrency)]
            await self._read(calls)
            await self._entries.join()
            for worker in workers:
                worker.cancel()
        return self._pace

    async def _read(self, calls: int) -> None:
        left = calls
        while left:
            answer = await self._redis.xreadgroup(
                _GROUP, _CONSUMER, {_STREAM: ">"}, count=self._concurrency, block=_BLOCK_MS
            )
            for _, entries in answer:
                for entry_id, fields in entries:
                    await self._entries.put((entry_id, fields[b"body"]))
                    left -= 1

    async def _work(self) -> None:
        while True:
            entry_id, body = await self._entries.get()
            request_id: str = orjson.loads(body)["request_id"]
            output = await self._client.call(request_id)
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(f"result:{request_id}", orjson.dumps(output))
                pipeline.xack(_STREAM, _GROUP, entry_id)
                await pipeline.execute()
            self._pace.tick()
            self._entries.task_done()


async def measure(redis_url: str, base_url: str, calls: int, concurrency: int) -> None:
    """Fill the stream, work it off, and tell the pace."""
    client = BareClient(base_url, concurrency)
    async with Redis.from_url(redis_url) as client_of_redis:
        redis = cast("Any", client_of_redis)
        await redis.flushdb()
        await redis.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)
        for start in range(0, calls, _FILL_AT_ONCE):
            async with redis.pipeline(transaction=False) as pipeline:
                for _ in range(min(_FILL_AT_ONCE, calls - start)):
                    body = orjson.dumps({"request_id": str(uuid.uuid4()), "input": INPUT})
                    pipeline.xadd(_STREAM, {"body": body})
                await pipeline.execute()
        try:
            pace = await StreamWorker(redis, client, concurrency).work_off(calls)
        finally:
            await client.close()
    pace.tell()


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description="raw Redis Streams")
    parser.add_argument("redis_url")
    parser.add_argument("base_url")
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(measure(arguments.redis_url, arguments.base_url, arguments.calls, arguments.concurrency))


if __name__ == "__main__":
    main()
