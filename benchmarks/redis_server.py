"""The Redis that others are measured on: its own process and folder, with a log on disk."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from agent_service.local.child_process import start_child
from agent_service.local.free_port import free_port
from benchmarks.processes import ProcessFailed

NOT_FOUND = "there is no redis-server on the PATH: what it would be compared with is left out"
_LIMIT = timedelta(seconds=20)


def find_redis() -> str | None:
    """The program, if it is installed."""
    return shutil.which("redis-server")


@asynccontextmanager
async def redis_server(program: str, folder: Path) -> AsyncIterator[str]:
    """
    The address of a Redis that appends what it is told to a file in `folder` and syncs that every second.

    Raises ProcessFailed when it does not start.
    """
    port = free_port()
    arguments = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    arguments += ["--appendonly", "yes", "--appendfsync", "everysec"]
    log = folder / "redis.log"
    child, found = await start_child(arguments, log=log, ready="Ready to accept connections", limit=_LIMIT)
    if found is None:
        raise ProcessFailed(f"redis-server ended: {child.output()[-500:]}")
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        await child.stop(grace=_LIMIT)
