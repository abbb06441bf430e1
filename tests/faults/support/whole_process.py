"""WholeProcess: three workers, an API and the upkeep, as one process has them, and how busy they are."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import httpx2
from loguru import logger
from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from agent_service.local.servers import serve
from agent_service.store import Store
from agent_service.store.operations import paced
from tests.support.api import make_app
from tests.support.waiting import until
from tests.support.worker_tools import HandlerFunction, HandlerWorker, echo, running, step

SERVICES = ("generation", "analysis", "communication")


class Activity(CommandListener, ServerHeartbeatListener):
    """Counts what a client asks of the server, its look whether there is one included, and log lines."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.lines: list[str] = []
        self._since = monotonic()

    def begin(self) -> None:
        """Count from now on."""
        self.operations.clear()
        self.lines.clear()
        self._since = monotonic()

    def per_second(self) -> tuple[float, float]:
        """Operations and log lines since `begin`."""
        seconds = monotonic() - self._since
        return self.operations.total() / seconds, len(self.lines) / seconds

    def started(self, event: CommandStartedEvent | ServerHeartbeatStartedEvent) -> None:
        name = event.command_name if isinstance(event, CommandStartedEvent) else "heartbeat"
        self.operations[name] += 1

    def succeeded(self, event: CommandSucceededEvent | ServerHeartbeatSucceededEvent) -> None:
        """Only what is sent counts."""

    def failed(self, event: CommandFailedEvent | ServerHeartbeatFailedEvent) -> None:
        """Only what is sent counts."""


class WholeProcess:
    """What `whole_process` gives."""

    def __init__(self, store: Store, app_name: str, activity: Activity, client: httpx2.AsyncClient) -> None:
        self.store = store
        #: The name by which the server knows its connections.
        self.app_name = app_name
        self.activity = activity
        self.client = client

    async def submit(self, key: str | None = None) -> httpx2.Response:
        """Submit a step for each of the services, each after the one before."""
        steps: list[dict[str, Any]] = []
        for service in SERVICES:
            after = tuple(item["name"] for item in steps[-1:])
            steps.append(step(f"{service}_step", service, after=after))
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post("/v1/requests", json={"steps": steps}, headers=headers)

    async def completed(self, request_id: str, *, seconds: float = 90) -> None:
        """Wait until a client sees this request completed; fails when it ends otherwise, or too late."""

        async def ended() -> httpx2.Response | None:
            answer = await self.client.get(f"/v1/requests/{request_id}")
            over = answer.status_code == 200 and answer.json()["status"] not in ("accepted", "running")
            return answer if over else None

        answer: httpx2.Response = await until(ended, seconds=seconds, every=0.1)
        assert answer.json()["status"] == "completed", answer.text


@asynccontextmanager
async def whole_process(
    uri: str, database: str, *, handler: HandlerFunction = echo, lease_seconds: float = 30
) -> AsyncIterator[WholeProcess]:
    """A process on a client of its own, with everything that it does counted."""
    name, activity = f"process-{uuid.uuid4().hex}", Activity()
    client = AsyncMongoClient[dict[str, Any]](
        uri,
        appname=name,
        event_listeners=[activity],
        server_selector=paced,
        serverSelectionTimeoutMS=3_000,
        connectTimeoutMS=3_000,
    )
    sink = logger.add(lambda line: activity.lines.append(str(line)), level="INFO", format="{level} {message}")
    try:
        async with client, Store(client[database]) as store:
            workers = [
                HandlerWorker(store, handler, service=service, lease_seconds=lease_seconds)
                for service in SERVICES
            ]
            async with (
                running(*workers),
                serve(make_app(store)) as server,
                httpx2.AsyncClient(base_url=server.base_url, timeout=20) as http,
            ):
                yield WholeProcess(store, name, activity, http)
    finally:
        logger.remove(sink)
