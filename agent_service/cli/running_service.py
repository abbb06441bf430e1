"""Where the commands find the service that they speak to."""

from agent_service.domain.errors import ConfigurationError
from agent_service.local.addresses import find_addresses
from agent_service.settings import Settings


def find_api(settings: Settings) -> str:
    """The API at AGENT_SERVICE_URL, else that of the running `dev`. Raises ConfigurationError."""
    if settings.agent_service_url is not None:
        return settings.agent_service_url
    addresses = find_addresses(settings.data_folder)
    if addresses is None:
        raise ConfigurationError(
            f"there is no API to speak to: no `dev` runs on the data folder {settings.data_folder}."
            " Start `agent-service dev`, or set AGENT_SERVICE_URL to the address of an API"
        )
    return addresses.api_url


def find_mongodb(settings: Settings) -> str:
    """The address in MONGODB_URI, else that of the running `dev`. Raises ConfigurationError."""
    if settings.mongodb.uri is not None:
        return settings.mongodb.uri.get_secret_value()
    addresses = find_addresses(settings.data_folder)
    if addresses is None:
        raise ConfigurationError(
            f"MONGODB_URI is not set, and no `dev` runs on the data folder {settings.data_folder}"
        )
    return addresses.mongodb_uri
