"""
Procrastinate on PostgreSQL, in a process of its own.

`python -m benchmarks.procrastinate_queue POSTGRES_URL --calls 5000 --concurrency 64 [--base-url URL]` fills
the queue, then runs Procrastinate's own worker on uvloop, and prints its pace. Without a base service the
task does nothing.
"""

import asyncio
import uuid
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.backlog import INPUT
from benchmarks.bare_client import BareClient
from benchmarks.pace import Pace
from benchmarks.queue_arguments import QueueArguments, run_queue

_FILL_AT_ONCE = 1_000


async def measure(given: QueueArguments) -> None:
    """Fill the queue, work it off, and tell the pace."""
    client = None if given.base_url is None else BareClient(given.base_url, given.concurrency)
    app = App(connector=PsycopgConnector(conninfo=given.server, min_size=4, max_size=8))
    pace, done = Pace(), asyncio.Event()

    @app.task(name="work")
    async def work(request_id: str, text: object) -> None:
        if client is not None:
            await client.call(request_id)
        pace.tick()
        if pace.count >= given.calls:
            done.set()

    async with app.open_async():
        await app.connector.execute_query_async("DROP SCHEMA public CASCADE")
        await app.connector.execute_query_async("CREATE SCHEMA public")
        await app.schema_manager.apply_schema_async()
        for start in range(0, given.calls, _FILL_AT_ONCE):
            jobs = [_job() for _ in range(min(_FILL_AT_ONCE, given.calls - start))]
            await work.batch_defer_async(*jobs)
        pace = Pace()
        running = asyncio.create_task(
            app.run_worker_async(concurrency=given.concurrency, install_signal_handlers=False)
        )
        ended = asyncio.create_task(done.wait())
        await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ended.cancel()
    if client is not None:
        await client.close()
    pace.tell()


def _job() -> dict[str, Any]:
    return {"request_id": str(uuid.uuid4()), "text": INPUT}


if __name__ == "__main__":
    run_queue("Procrastinate on PostgreSQL", measure)
