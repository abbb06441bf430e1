"""The client of the API that commands open when they speak to a running service."""

from datetime import timedelta

from agent_service.cli.running_service import find_api
from agent_service.client import AgentClient
from agent_service.settings import Settings

#: People rather hear that nobody answers; a request that is followed is followed longer than this.
_PATIENCE = timedelta(seconds=2)


def open_client(settings: Settings) -> AgentClient:
    """A client of the API that the commands speak to. Raises ConfigurationError."""
    key = settings.agent_service_api_key
    api_key = None if key is None else key.get_secret_value()
    return AgentClient(find_api(settings), api_key=api_key, patience=_PATIENCE)
