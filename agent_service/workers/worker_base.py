"""ClientWorker: claims the contexts of one service and has a base service do the work."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar, cast

from loguru import logger

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.base_services.client import BaseServiceClient
from agent_service.base_services.http_client import HttpClient
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import ConfigurationError, LoopFailed
from agent_service.domain.request import DEFAULT_QUEUE
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.store import Store
from agent_service.workers.handler_call import Handler
from agent_service.workers.threaded_handler import BlockingHandler, ThreadedHandler, is_plain_function
from agent_service.workers.worker_run import WorkerRun
from agent_service.workers.worker_settings import WorkerArguments, WorkerSettings, resolve


class ClientWorker:
    """
    A worker for one service: `await worker.start()`, and later `await worker.stop()`.

    A service of one's own is a subclass with a `service` name; what it calls is `<SERVICE>_BASE_URL`.
    Override `handle` to do something before or after the call, or something else instead of it. Keyword
    arguments that are left out come from the environment; lengths of time are `timedelta` or seconds.
    """

    service: ClassVar[str] = ""

    def __init__(
        self,
        store: Store,
        *,
        service: str | None = None,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        base_url: str | None = None,
        api_key: str | None = None,
        poll_interval: timedelta | float | None = None,
        concurrency: int | None = None,
        batch_size: int | None = None,
        timeout: timedelta | float | None = None,
        lease_seconds: timedelta | float | None = None,
        protocol: str | None = None,
        model: str | None = None,
        shutdown_grace: timedelta | float | None = None,
        retention: timedelta | None = None,
        priority_ageing: timedelta | float | None = None,
        backoff: RetryPolicy | None = None,
        http_client: HttpClient | None = None,
    ) -> None:
        self._service = service or self.service
        if not self._service:
            raise ConfigurationError("a worker needs the name of its service: set `service` in the subclass")
        if not queues or isinstance(queues, str):
            raise ConfigurationError("a worker needs at least one queue, such as queues=('default',)")
        arguments = WorkerArguments(
            base_url=base_url,
            api_key=api_key,
            poll_interval=poll_interval,
            concurrency=concurrency,
            batch_size=batch_size,
            timeout=timeout,
            lease_seconds=lease_seconds,
            protocol=protocol,
            model=model,
            shutdown_grace=shutdown_grace,
            retention=retention,
            priority_ageing=priority_ageing,
        )
        self._settings = self._resolve(arguments)
        self.id = str(uuid.uuid4())
        self._store = store
        self._queues = tuple(queues)
        self._backoff = backoff or RetryPolicy()
        self._http_client = http_client
        self._contexts = ContextManager(store, retention=self._settings.retention)
        self._client: BaseServiceClient | None = None
        self._starting: asyncio.Task[None] | None = None
        self._lifecycle = asyncio.Lock()
        #: Set while it does not run.
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._run: WorkerRun | None = None

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """
        Do the work of one attempt: one HTTP call to the base service.

        `on_delta` takes each piece of streamed text. Raise `BaseServiceUnavailable` for what may pass and
        `BaseServiceRejected` for what will not.

        An override that is a plain function runs in a thread, with an `on_delta` that blocks until the piece
        was taken. No thread can be stopped: where its attempt ends before it, `on_delta` raises `LeaseLost`
        from then on, and its slot stays taken until it returns.
        """
        if self._client is None:
            raise ConfigurationError(f"set {self._service.upper()}_BASE_URL, or override `handle`")
        return await self._client.call(call, on_delta)

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since; true also while it waits for MongoDB."""
        return self._run is not None or self._starting is not None

    async def start(self) -> None:
        """
        Connect, then claim and work until `stop`.

        Waits for MongoDB as long as it takes. Raises `ConfigurationError` if there is nothing to call, and
        `LoopFailed` where a loop of this store has failed for good: then another store is needed.
        """
        if self.is_running:
            raise ConfigurationError(f"the {self._service} worker runs already")
        if self._store.supervisor.failure is not None:
            raise self._store.supervisor.failure
        self._client = self._new_client()
        self._starting = asyncio.create_task(self._store.wait_until_ready())
        try:
            # A stop that comes too late to end the waiting finds what begins here, and ends that.
            async with self._lifecycle:
                await asyncio.wait({self._starting})
                if self._starting.cancelled():
                    logger.info("{} worker stopped before it had started", self._service)
                    await self._close_client()
                    return
                self._starting.result()
                self._begin()
        except BaseException:
            self._starting.cancel()
            await self._close_client()
            raise
        finally:
            self._starting = None
        logger.info(
            "{} worker started: {} at a time, queues {}",
            self._service,
            self._settings.concurrency,
            ", ".join(self._queues),
        )

    def _begin(self) -> None:
        self._run = WorkerRun(
            self._contexts,
            worker_id=self.id,
            service=self._service,
            queues=self._queues,
            settings=self._settings,
            handler=self._new_handler(),
            backoff=self._backoff,
        )
        self._stopped.clear()
        self._forget_failures = self._store.supervisor.on_failed(self._stop_soon)

    async def stop(self) -> None:
        """
        Stop claiming at once, let attempts end within the grace time, then hand the rest back.

        Leases are renewed until the last attempt has ended. A `start` that still waits for MongoDB returns.
        Does nothing for a worker that does not run.
        """
        if self._starting is not None:
            self._starting.cancel()
        async with self._lifecycle:
            if self._run is None:
                return
            await self._run.stop(self._settings.shutdown_grace)
            await self._close_client()
            self._run = None
            self._forget_failures()
            self._stopped.set()
        logger.info("{} worker stopped", self._service)

    async def wait(self) -> None:
        """
        Wait until the worker has stopped, be it by `stop` or by itself.

        Where a loop of the process fails that it cannot do without, the worker stops by itself, in order:
        what it can write it writes, and the rest it hands back. Raises `LoopFailed` then.
        """
        await self._stopped.wait()
        if self._store.supervisor.failure is not None:
            raise self._store.supervisor.failure

    def _stop_soon(self, _: LoopFailed) -> None:
        """A loop of the process failed: stop in order, with nobody's help."""
        supervisor = self._store.supervisor
        self._stop_task = supervisor.background(f"stopping the {self._service} worker", self._stop_for_good())

    async def _stop_for_good(self) -> None:
        try:
            await self.stop()
        finally:
            self._stopped.set()

    def _resolve(self, arguments: WorkerArguments) -> WorkerSettings:
        """How it works: the arguments, and what was left out from the environment."""
        return resolve(self._service, arguments)

    def _new_handler(self) -> Handler:
        """`handle`, in threads where it is a plain function."""
        if is_plain_function(self.handle):
            return ThreadedHandler(cast("BlockingHandler", self.handle))
        return self.handle

    def _new_client(self) -> BaseServiceClient | None:
        """The client of the base service; None where `handle` is overridden and needs none."""
        settings = self._settings
        if settings.base_url is None:
            if type(self).handle is ClientWorker.handle:
                raise ConfigurationError(
                    f"{self._service.upper()}_BASE_URL is not set: it must be the address of the"
                    f" {self._service} service, such as https://{self._service}.example.org"
                )
            return None
        return BaseServiceClient(
            base_url=settings.base_url,
            api_key=settings.api_key,
            protocol=settings.protocol,
            model=settings.model,
            concurrency=settings.concurrency,
            http_client=self._http_client,
        )

    async def _close_client(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
