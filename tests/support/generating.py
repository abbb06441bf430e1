"""An API and a generative worker around a model's server, and what a client of that API does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agent_service.client import AgentClient, RequestEvent
from agent_service.local.servers import serve
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.api import make_app
from tests.support.worker_tools import AT_ONCE, running

#: How long an answer may take on a slow machine.
DEADLINE_SECONDS = 90.0


@asynccontextmanager
async def generating(
    store: Store, base_url: str, model: str
) -> AsyncIterator[tuple[AgentClient, GenerativeWorker]]:
    """A client of the API, and the worker that calls the model."""
    worker = GenerativeWorker(
        store, base_url=base_url, protocol="openai", model=model, backoff=AT_ONCE, shutdown_grace=0
    )
    async with serve(make_app(store)) as server, running(worker), AgentClient(server.base_url) as client:
        yield client, worker


async def ask(client: AgentClient, **step_input: Any) -> str:
    """Submit a request of one step; returns its id."""
    return (await client.submit({"service": "generation", "input": step_input})).id


async def step_of(client: AgentClient, request_id: str) -> dict[str, Any]:
    """The step of such a request as it is now."""
    (step,) = (await client.get(request_id)).steps
    return dict(step.raw)


async def events_of(client: AgentClient, request_id: str) -> list[RequestEvent]:
    """All events of a request, once it has ended."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [event async for event in client.stream(request_id)]


async def first_delta(client: AgentClient, request_id: str) -> None:
    """Return when the first text has come."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for event in client.stream(request_id):
            if event.type == "output.delta":
                return


def text_of(events: list[RequestEvent]) -> str:
    """What was streamed."""
    return "".join(event.delta or "" for event in events if event.type == "output.delta")
