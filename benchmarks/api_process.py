"""The API in a process of its own, as `agent-service api` runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from agent_service.client import AgentClient
from agent_service.local.child_process import ChildProcess
from agent_service.local.free_port import free_port
from benchmarks.noop_worker import SERVICE as NOOP
from benchmarks.processes import ProcessFailed, running
from benchmarks.stage import Stage

_READY_LIMIT_SECONDS = 60
_LOOK_SECONDS = 0.1


@asynccontextmanager
async def running_api(stage: Stage, database: str) -> AsyncIterator[str]:
    """The address of an API on this database that is ready."""
    async with api_process(stage, database) as (address, _):
        yield address


@asynccontextmanager
async def api_process(stage: Stage, database: str) -> AsyncIterator[tuple[str, int]]:
    """The same, with the id of its process."""
    port = free_port()
    variables = {
        "MONGODB_URI": stage.uri,
        "MONGODB_DATABASE": database,
        "API_PORT": str(port),
        "SERVICES": NOOP,
        "LOG_LEVEL": "WARNING",
    }
    address = f"http://127.0.0.1:{port}"
    async with running("agent_service", ["api"], log=stage.log("api"), variables=variables) as (child, _):
        await _until_ready(address, child)
        yield address, child.pid


async def _until_ready(address: str, child: ChildProcess) -> None:
    deadline = monotonic() + _READY_LIMIT_SECONDS
    async with AgentClient(address) as client:
        while (problem := await client.ready()) is not None:
            if child.exit_code is not None or monotonic() > deadline:
                raise ProcessFailed(f"the API is not ready: {problem}; {child.output()[-2_000:]}")
            await asyncio.sleep(_LOOK_SECONDS)
