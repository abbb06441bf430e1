"""
PgQueuer on PostgreSQL, in a process of its own.

`python -m benchmarks.pgqueuer_queue POSTGRES_URL --calls 5000 --concurrency 64 [--base-url URL]` fills the
queue, then runs PgQueuer's own worker on uvloop, and prints its pace. Without a base service the job does
nothing.
"""

import uuid

import asyncpg
import orjson
from pgqueuer import Job, PgQueuer, Queries

from benchmarks.backlog import INPUT
from benchmarks.bare_client import BareClient
from benchmarks.pace import Pace
from benchmarks.queue_arguments import QueueArguments, run_queue

_FILL_AT_ONCE = 1_000


async def measure(given: QueueArguments) -> None:
    """Fill the queue, work it off, and tell the pace."""
    client = None if given.base_url is None else BareClient(given.base_url, given.concurrency)
    async with asyncpg.create_pool(given.server, min_size=4, max_size=8) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        if await queries.schema_is_installed():
            await queries.uninstall()
        await queries.install()
        await _fill(queries, given.calls)
        queue = PgQueuer.from_asyncpg_pool(pool)
        pace = Pace()

        @queue.entrypoint("work")
        async def work(job: Job) -> None:
            if client is not None and job.payload is not None:
                await client.call(orjson.loads(job.payload)["request_id"])
            pace.tick()
            if pace.count >= given.calls:
                queue.shutdown.set()

        try:
            # It asks for the next ones when a batch of this size is free.
            half = max(given.concurrency // 2, 1)
            await queue.run(batch_size=half, max_concurrent_tasks=given.concurrency)
        finally:
            if client is not None:
                await client.close()
    pace.tell()


async def _fill(queries: Queries, calls: int) -> None:
    for start in range(0, calls, _FILL_AT_ONCE):
        count = min(_FILL_AT_ONCE, calls - start)
        payloads: list[bytes | None] = [
            orjson.dumps({"request_id": str(uuid.uuid4()), "input": INPUT}) for _ in range(count)
        ]
        await queries.enqueue(["work"] * count, payloads, [0] * count)


if __name__ == "__main__":
    run_queue("PgQueuer on PostgreSQL", measure)
