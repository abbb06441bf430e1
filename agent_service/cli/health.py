"""Health: whether a role runs on this machine, for health checks of containers."""

import socket
from datetime import timedelta

from agent_service.api.listening import address_of
from agent_service.cli.running_service import find_mongodb
from agent_service.client import AgentClient
from agent_service.domain.errors import AgentServiceError
from agent_service.local.addresses import find_addresses
from agent_service.settings import Settings
from agent_service.store import Store

#: A worker that has been silent for this long counts as gone: three of its signs of life.
SILENCE_LIMIT = timedelta(seconds=45)
#: Below the timeout of the health checks of containers.
_ANSWER_LIMIT = timedelta(seconds=3)


async def find_api_problem(settings: Settings) -> str | None:
    """Why the API at API_HOST and API_PORT, or that of a running `dev`, is not ready; None if it is."""
    addresses = find_addresses(settings.data_folder)
    address = addresses.api_url if addresses else address_of(settings.api.host, settings.api.port)
    try:
        async with AgentClient(address, answer_limit=_ANSWER_LIMIT) as client:
            problem = await client.ready()
    except AgentServiceError as error:
        problem = str(error)
    return None if problem is None else f"the API at {address} is not ready: {problem}"


async def find_worker_problem(settings: Settings) -> str | None:
    """Why no worker of this machine counts as alive; None if one does."""
    host = socket.gethostname()
    try:
        uri = find_mongodb(settings)
        mongodb = settings.mongodb
        async with Store.connect(uri, database=mongodb.database, driver=mongodb.driver) as store:
            await store.measure_clock()
            workers = await store.workers.seen_since(store.clock.now() - SILENCE_LIMIT)
    except AgentServiceError as error:
        return f"no worker of this machine can be seen: {error}"
    if any(worker.host == host for worker in workers):
        return None
    return f"no worker on {host} gave a sign of life within {SILENCE_LIMIT.total_seconds():g} s"
