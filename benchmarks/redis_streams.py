"""
Raw Redis Streams: the least that does the same work, in a process of its own.

`python -m benchmarks.redis_streams REDIS_URL --base-url URL --calls 5000 --concurrency 64` fills a stream,
and then measures: XREADGROUP for as many entries as there are free slots; one HTTP call each with the same
client; SET of the result; XACK. With `--tuned` entries are read ahead of the slots, and SET and XACK share a
round trip. There are no leases, no retries, no events, and no request that ends.
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

    def __init__(
        self,
        # The types of redis do not tell a pipeline, whose commands answer later, from a client.
        redis: Any,
        client: BareClient,
        concurrency: int,
        *,
        tuned: bool,
    ) -> None:
        self._redis = redis
        self._client = client
        self._concurrency = concurrency
        self._finish = self._finish_together if tuned else self._finish_singly
        #: Read and not done; where it is tuned, as many may wait as are worked on.
        self._most = 2 * concurrency if tuned else concurrency
        self._open = 0
        self._room = asyncio.Event()
        self._entries: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
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
            while self._open >= self._most:
                self._room.clear()
                await self._room.wait()
            answer = await self._redis.xreadgroup(
                _GROUP, _CONSUMER, {_STREAM: ">"}, count=self._most - self._open, block=_BLOCK_MS
            )
            for _, entries in answer:
                for entry_id, fields in entries:
                    self._entries.put_nowait((entry_id, fields[b"body"]))
                left -= len(entries)
                self._open += len(entries)

    async def _work(self) -> None:
        while True:
            entry_id, body = await self._entries.get()
            request_id: str = orjson.loads(body)["request_id"]
            output = await self._client.call(request_id)
            await self._finish(entry_id, request_id, orjson.dumps(output))
            self._pace.tick()
            self._open -= 1
            self._room.set()
            self._entries.task_done()

    async def _finish_singly(self, entry_id: bytes, request_id: str, result: bytes) -> None:
        await self._redis.set(f"result:{request_id}", result)
        await self._redis.xack(_STREAM, _GROUP, entry_id)

    async def _finish_together(self, entry_id: bytes, request_id: str, result: bytes) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(f"result:{request_id}", result)
            pipeline.xack(_STREAM, _GROUP, entry_id)
            await pipeline.execute()


async def measure(redis_url: str, base_url: str, calls: int, concurrency: int, *, tuned: bool) -> None:
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
            pace = await StreamWorker(redis, client, concurrency, tuned=tuned).work_off(calls)
        finally:
            await client.close()
    pace.tell()


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description="raw Redis Streams")
    parser.add_argument("redis_url")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--tuned", action="store_true")
    given = parser.parse_args()
    measuring = measure(given.redis_url, given.base_url, given.calls, given.concurrency, tuned=given.tuned)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(measuring)


if __name__ == "__main__":
    main()
