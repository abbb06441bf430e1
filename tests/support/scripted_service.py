"""The server of `scripted_process`, started for a test and stopped after it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from agent_service.local.child_process import start_child


@asynccontextmanager
async def scripted_service(folder: Path) -> AsyncIterator[str]:
    """Its base URL; its log goes to the folder."""
    child, found = await start_child(
        [sys.executable, "-m", "tests.support.scripted_process"],
        log=folder / "scripted_service.log",
        ready=r"base service ready on (http://\S+)",
        limit=timedelta(seconds=60),
    )
    assert found is not None, child.output()
    try:
        yield found[1]
    finally:
        await child.stop(grace=timedelta(seconds=5))
