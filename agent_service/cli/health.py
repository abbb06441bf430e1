"""Health: whether a role runs on this machine, for health checks of containers."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from agent_service.api.listening import address_of
from agent_service.cli.open_store import open_store
from agent_service.client import AgentClient
from agent_service.domain.errors import AgentServiceError
from agent_service.insights import living_workers
from agent_service.local.addresses import find_addresses
from agent_service.settings import Settings
from agent_service.store.workers import SILENT_AFTER, SignOfLife

#: Below the timeout of the health checks of containers.
_ANSWER_LIMIT = timedelta(seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Why a role counts as not running here, or None and what there is to say of it."""

    problem: str | None = None
    remark: str = ""


async def api_health(settings: Settings) -> Health:
    """Whether the API at API_HOST and API_PORT, or that of a running `dev`, is ready."""
    addresses = find_addresses(settings.data_folder)
    address = addresses.api_url if addresses else address_of(settings.api.host, settings.api.port)
    try:
        async with AgentClient(address, answer_limit=_ANSWER_LIMIT) as client:
            problem = await client.ready()
    except AgentServiceError as error:
        problem = str(error)
    if problem is None:
        return Health()
    return Health(problem=f"the API at {address} is not ready: {problem}")


async def worker_health(settings: Settings) -> Health:
    """Whether the workers of this machine live and work, and how long an event loop of theirs stood still."""
    host = socket.gethostname()
    silence = f"{SILENT_AFTER.total_seconds():g} s"
    try:
        async with open_store(settings) as store:
            await store.measure_clock()
            workers = await living_workers(store)
    except AgentServiceError as error:
        return Health(problem=f"no worker of this machine can be seen: {error}")
    here = [worker for worker in workers if worker.host == host]
    for worker in here:
        if worker.trouble:
            return Health(problem=f"a worker of {worker.service} on {host} is unhealthy: {worker.trouble}")
    for service, queues in sorted({(worker.service, worker.queues) for worker in here}):
        missing = _missing([one for one in here if (one.service, one.queues) == (service, queues)])
        if missing:
            return Health(
                problem=f"{missing} of the {service} worker on {host} gave no sign of life within {silence}"
            )
    if here:
        lag = max(worker.loop_lag for worker in here)
        return Health(remark=f"event loop late by {lag.total_seconds():.1f} s at most")
    return Health(problem=f"no worker on {host} gave a sign of life within {silence}")


def _missing(workers: Sequence[SignOfLife]) -> str:
    """Which process is silent of those that work for the same on this machine; empty if none is."""
    # The number of processes may have changed a moment ago, and those of before were killed.
    expected = max(workers, key=lambda worker: worker.started_at).processes
    present = {worker.process for worker in workers}
    silent = next((number for number in range(1, expected + 1) if number not in present), None)
    return "" if silent is None else f"process {silent} of {expected}"
