"""Worker roles: which worker a service has, and what must be set for it; loads nothing of the others."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from agent_service.domain.callback import CALLBACK_SERVICE
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.request import DEFAULT_QUEUE
from agent_service.settings import Settings
from agent_service.store import Store

#: The workers of the standard services; any other service has a plain `ClientWorker`.
_WORKERS = {
    "generation": "agent_service.workers.generative_worker:GenerativeWorker",
    "analysis": "agent_service.workers.analysis_worker:AnalysisWorker",
    "communication": "agent_service.workers.communication_worker:CommunicationWorker",
}
_PLAIN_WORKER = "agent_service.workers.worker_base:ClientWorker"
_CALLBACK_WORKER = "agent_service.workers.callback_worker:CallbackWorker"
_CHECK_CALLBACKS = "agent_service.workers.callback_worker:check_callbacks"
#: Every part that is loaded by name.
PARTS = (*_WORKERS.values(), _PLAIN_WORKER, _CALLBACK_WORKER, _CHECK_CALLBACKS)


class Worker(Protocol):
    """What a worker of any service can do."""

    async def start(self) -> None:
        """Begin to claim and to work."""

    async def stop(self) -> None:
        """End what runs, within the grace time."""


def check_worker(settings: Settings, service: str, queues: Sequence[str] = ()) -> None:
    """Raise `ConfigurationError` that names the variable to set, if no worker for the service can run."""
    if service == CALLBACK_SERVICE:
        load_part(_CHECK_CALLBACKS)(settings.callback)
        if set(queues) - {DEFAULT_QUEUE}:
            raise ConfigurationError("callbacks wait in the queue `default` only; leave --queue out")
        return
    if service not in settings.services:
        known = ", ".join((*settings.services, CALLBACK_SERVICE))
        raise ConfigurationError(
            f"there is no service {service!r}; known are {known}. Name further ones in SERVICES"
        )
    if settings.services[service].base_url is None:
        raise ConfigurationError(
            f"{service.upper()}_BASE_URL is not set: it must be the address of the {service} service,"
            f" such as https://{service}.example.org"
        )


def make_worker(settings: Settings, store: Store, service: str, queues: Sequence[str]) -> Worker:
    """The worker of a service that passed `check_worker`, not started yet."""
    if service == CALLBACK_SERVICE:
        return _make_callback_worker(settings, store)
    found = settings.services[service]
    made: Worker = load_part(_WORKERS.get(service, _PLAIN_WORKER))(
        store,
        service=service,
        queues=tuple(queues) or (DEFAULT_QUEUE,),
        base_url=found.base_url,
        api_key=found.api_key.get_secret_value() if found.api_key else None,
        poll_interval=found.poll_interval,
        concurrency=found.concurrency,
        batch_size=found.batch_size,
        timeout=found.timeout,
        lease_seconds=found.lease,
        protocol=found.protocol,
        model=found.model,
        shutdown_grace=settings.shutdown_grace,
        retention=settings.retention,
        priority_ageing=settings.priority_ageing,
    )
    return made


def _make_callback_worker(settings: Settings, store: Store) -> Worker:
    """Callbacks wait in one queue only."""
    made: Worker = load_part(_CALLBACK_WORKER)(
        store,
        callbacks=settings.callback,
        shutdown_grace=settings.shutdown_grace,
        retention=settings.retention,
    )
    return made


# What is loaded by name has no type here; each caller gives it the one that it needs.
def load_part(place: str) -> Callable[..., Any]:
    """What stands at a place such as `package.module:name`."""
    module, _, name = place.partition(":")
    return cast("Callable[..., Any]", getattr(import_module(module), name))
