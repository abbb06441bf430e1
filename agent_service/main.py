"""
The composition root: settings → store → the roles that were asked for, and their clean stop.

Only what a role needs is loaded, from one table of names, so that a worker never carries the web framework.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from loguru import logger

from agent_service.api.listening import (
    address_of,
    admitted_hosts,
    check_listening,
    say_who_is_served,
)
from agent_service.concurrency import run_together
from agent_service.domain.callback import CALLBACK_SERVICE
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.quota import Quota
from agent_service.keys.key_ring import KeyRing
from agent_service.local.addresses import Addresses, published
from agent_service.local.connection_limits import ConnectionLimits
from agent_service.processes.parent_process import ParentProcess
from agent_service.processes.role_run import run_until_told
from agent_service.processes.worker_processes import WorkerProcesses
from agent_service.request_service import RequestService
from agent_service.settings import ApiSettings, Settings, mask_uri
from agent_service.store import Store
from agent_service.store.roster import ProcessPlace
from agent_service.upkeep import Upkeep
from agent_service.worker_roles import check_worker, make_worker

try:
    import uvloop
except ImportError:
    # Where it has no build, the standard loop does the same more slowly.
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

#: Where the parts of the roles are.
_HOMES = {
    "create_app": "agent_service.api.app",
    "serve": "agent_service.local.servers",
    "start_local_default": "agent_service.local.local_default",
    "hold_data_folder": "agent_service.local.data_folder",
}


class LocalDefault(Protocol):
    """The embedded parts of `dev`; `settings` hold their addresses."""

    settings: Settings
    outbox: Path | None

    async def wait_until_broken(self) -> None:
        """Wait until one of them has ended by itself. Raises `LocalPartUnavailable`."""


def run(
    role: Coroutine[Any, Any, None],
    *,
    when_stopped: int = 0,
    parent: ParentProcess | None = None,
    end_at_once: Callable[[], None] = lambda: None,
) -> int:
    """
    Run a role to its end, and return the exit code: 0, or `when_stopped` where it was told to stop.

    The first SIGTERM or SIGINT stops it gracefully, and so does the end of its `parent`. The second signal
    ends the process at once, after a call of `end_at_once`.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(
            run_until_told(role, when_stopped=when_stopped, parent=parent, end_at_once=end_at_once)
        )


async def api(settings: Settings) -> None:
    """
    The role `api`: serve HTTP until cancelled, from the start; without MongoDB every answer is a 503.

    Raises ConfigurationError that names the variable to set.
    """
    _mongodb_uri(settings)
    check_listening(settings.api)
    async with connected(settings) as store, serving_api(settings, store):
        await store.wait_until_ready()
        upkeep = Upkeep.of(store, lease=_longest_lease(settings), retention=settings.retention)
        upkeep.start()
        try:
            await store.supervisor.wait()
        finally:
            await upkeep.stop()


async def worker(
    settings: Settings, service: str, queues: Sequence[str] = (), *, place: ProcessPlace | None = None
) -> None:
    """
    The role `worker`: work for one service until cancelled; `place` says which of several processes does.

    Raises ConfigurationError that names the variable to set.
    """
    check_worker(settings, service, queues)
    async with connected(settings) as store:
        if place is not None:
            store.roster.place = place
        async with working(settings, store, [service], queues):
            await store.supervisor.wait()


async def worker_processes(
    settings: Settings, service: str, queues: Sequence[str], processes: WorkerProcesses
) -> None:
    """
    The role `worker` in several processes, supervised by this one, until cancelled.

    What would keep each of them from working is found, told and waited for here, once. Raises
    ConfigurationError, or `WorkerProcessFailed` with the exit code of a process.
    """
    check_worker(settings, service, queues)
    async with connected(settings) as store:
        await store.wait_until_ready()
    await processes.run()


async def dev(settings: Settings) -> None:
    """
    The role `dev`: everything in one process until cancelled.

    Raises ConfigurationError, or LocalPartUnavailable when a part cannot run on this machine.
    """
    check_listening(settings.api)
    if settings.callback.allowed_hosts:
        check_worker(settings, CALLBACK_SERVICE)
    with _load("hold_data_folder")(settings.data_folder) as folder:
        held = settings.model_copy(update={"data_folder": folder})
        async with development(held) as (addresses, wait_until_broken):
            logger.info("the API is at {}, MongoDB at {}", addresses.api_url, addresses.mongodb_uri)
            if addresses.outbox is not None:
                logger.info("messages are put into {}", addresses.outbox)
            await wait_until_broken()


@asynccontextmanager
async def development(
    settings: Settings,
) -> AsyncIterator[tuple[Addresses, Callable[[], Coroutine[Any, Any, None]]]]:
    """
    Everything that `dev` runs, on a data folder that is held; its addresses are published while it runs.

    What is yielded beside them waits until a part has ended by itself, and raises what it ended with.
    What is missing in `settings` is started: see `agent_service.local.local_default`.
    """
    async with AsyncExitStack() as stack:
        start_local = cast(
            "Callable[[Settings], AbstractAsyncContextManager[LocalDefault]]", _load("start_local_default")
        )
        local = await stack.enter_async_context(start_local(settings))
        settings = local.settings
        store = await stack.enter_async_context(connected(settings))
        base_urls = {name: found.base_url for name, found in settings.services.items() if found.base_url}
        for name in settings.services.keys() - base_urls.keys():
            logger.warning("{}_BASE_URL is not set, so nothing works for {} here", name.upper(), name)
        services = [*base_urls, *([CALLBACK_SERVICE] if settings.callback.allowed_hosts else [])]
        await stack.enter_async_context(working(settings, store, services))
        api_url = await stack.enter_async_context(serving_api(settings, store))
        addresses = Addresses(
            pid=os.getpid(),
            api_url=api_url,
            mongodb_uri=mask_uri(_mongodb_uri(settings)),
            base_urls={name: mask_uri(url) for name, url in base_urls.items()},
            outbox=str(local.outbox) if local.outbox else None,
        )
        stack.enter_context(published(addresses, settings.data_folder))
        yield addresses, lambda: run_together(local.wait_until_broken(), store.supervisor.wait())


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Store]:
    """The store at the configured address; nothing is sent yet."""
    mongodb = settings.mongodb
    async with Store.connect(
        _mongodb_uri(settings), database=mongodb.database, driver=mongodb.driver
    ) as store:
        yield store


@asynccontextmanager
async def serving_api(settings: Settings, store: Store) -> AsyncIterator[str]:
    """The API at its host and port while the block runs; yields the address that others reach it at."""
    requests = RequestService(
        store,
        max_attempts={name: service.max_attempts for name, service in settings.services.items()},
        deadline=settings.request_deadline,
        retention=settings.retention,
        quota=Quota(**dict(settings.limits)),
        callbacks=settings.callback.rules,
        # The body of an HTTP request is nobody else's.
        copies=False,
    )
    app = _load("create_app")(
        store,
        requests,
        max_body_bytes=settings.api.max_body_bytes,
        body_timeout=settings.api.body_timeout,
        keys=KeyRing.of(settings.api, store),
        hosts=admitted_hosts(settings.api),
    )
    say_who_is_served(settings.api)
    async with _load("serve")(
        app, host=settings.api.host, port=settings.api.port, limits=_connection_limits(settings.api)
    ) as server:
        logger.info("the API listens on {}:{}", server.host, server.port)
        draining = app.state.draining
        serving = store.supervisor.start("HTTP server", server.wait_until_ended, ends=draining.is_set)
        try:
            yield address_of(server.host, server.port)
        finally:
            # Streams end by themselves now, and their readers go on elsewhere.
            draining.set()
            serving.cancel()


def _connection_limits(api: ApiSettings) -> ConnectionLimits:
    return ConnectionLimits(
        connections=api.max_connections, head_bytes=api.max_head_bytes, head_timeout=api.head_timeout
    )


@asynccontextmanager
async def working(
    settings: Settings, store: Store, services: Sequence[str], queues: Sequence[str] = ()
) -> AsyncIterator[None]:
    """A worker for each service while the block runs; at the end they all stop within one grace time."""
    workers = [make_worker(settings, store, service, queues) for service in services]
    await store.wait_until_ready()
    try:
        for each in workers:
            await each.start()
        yield
    finally:
        ends = await asyncio.gather(*(each.stop() for each in workers), return_exceptions=True)
        for error in (end for end in ends if isinstance(end, BaseException)):
            logger.opt(exception=error).error("a worker did not stop cleanly")


def _mongodb_uri(settings: Settings) -> str:
    if settings.mongodb.uri is None:
        raise ConfigurationError(
            "MONGODB_URI is not set: it must be the address of a replica set, such as"
            " mongodb://127.0.0.1:27017/?replicaSet=rs0"
        )
    return settings.mongodb.uri.get_secret_value()


def _longest_lease(settings: Settings) -> timedelta:
    return max(service.lease for service in settings.services.values())


# What is loaded by name has no type here; each caller gives it the one that it needs.
def _load(name: str) -> Callable[..., Any]:
    return cast("Callable[..., Any]", getattr(import_module(_HOMES[name]), name))
