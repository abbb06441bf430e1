"""The server of `mock_model_process`, started for a test and stopped after it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from agent_service.local.child_process import start_child


@asynccontextmanager
async def mock_model(folder: Path) -> AsyncIterator[str]:
    """Its base URL, with the version in it; its log goes to the folder."""
    child, found = await start_child(
        [sys.executable, "-m", "tests.support.mock_model_process"],
        log=folder / "mock_model.log",
        ready=r"mock model ready on (http://\S+)",
        limit=timedelta(seconds=60),
    )
    assert found is not None, child.output()
    try:
        yield f"{found[1]}/v1"
    finally:
        await child.stop(grace=timedelta(seconds=5))
