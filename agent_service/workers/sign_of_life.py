"""Signs of life: what a worker says of itself now and then, for health checks and operators."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from loguru import logger

from agent_service.domain.errors import StoreError
from agent_service.store import Store
from agent_service.store.workers import BY_LINES, SignOfLife

#: The time between two signs; three times this without one, and the worker counts as gone.
EVERY = timedelta(seconds=15)


def _own_version() -> str:
    try:
        return version("agent-service")
    except PackageNotFoundError:
        # Run from a folder that nobody installed.
        return ""


class LifeSigns:
    """Writes a sign of life at the start, every now and then, and takes it away at the end."""

    def __init__(
        self,
        store: Store,
        *,
        worker_id: str,
        service: str,
        queues: tuple[str, ...],
        concurrency: int,
        running: Callable[[], int],
        loop_lag: Callable[[], timedelta],
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._service = service
        self._queues = queues
        self._concurrency = concurrency
        self._running = running
        self._loop_lag = loop_lag
        self._trouble = trouble
        self._version = _own_version()
        self._started_at = store.clock.now()

    async def run(self, stopping: asyncio.Event) -> None:
        """Report until `stopping` is set; trouble of MongoDB only delays the next sign."""
        self._store.roster.join(self._worker_id)
        await self._report()
        # Later on, whoever looks for repairs sees who else is there.
        await self._learn_who_is_present()
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY.total_seconds()):
                    await stopping.wait()
            if not stopping.is_set():
                await self._report()
        self._store.roster.leave(self._worker_id)
        with suppress(StoreError):
            await self._store.workers.remove(self._worker_id)

    async def _learn_who_is_present(self) -> None:
        try:
            self._store.roster.learn(await self._store.workers.present(self._store.clock.now()))
        except StoreError as error:
            logger.debug("who else is there could not be read: {}", error)
        except Exception:
            logger.exception("the sign of life met something unforeseen")

    async def _report(self) -> None:
        try:
            await self._store.workers.report(
                SignOfLife(
                    id=self._worker_id,
                    service=self._service,
                    queues=self._queues,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    process=self._store.roster.place.number,
                    processes=self._store.roster.place.of,
                    concurrency=self._concurrency,
                    running=self._running(),
                    loop_lag=self._loop_lag(),
                    trouble=self._trouble(),
                    version=self._version,
                    claims_by=BY_LINES,
                    started_at=self._started_at,
                    seen_at=self._store.clock.now(),
                )
            )
        except StoreError as error:
            logger.debug("the sign of life could not be written: {}", error)
        except Exception:
            logger.exception("the sign of life met something unforeseen")
