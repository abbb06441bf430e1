"""The store that commands open when they speak to MongoDB themselves."""

from agent_service.cli.running_service import find_mongodb
from agent_service.settings import Settings
from agent_service.store import Store


def open_store(settings: Settings) -> Store:
    """The store that the service uses, to be closed by whoever asked. Raises ConfigurationError."""
    mongodb = settings.mongodb
    return Store.connect(find_mongodb(settings), database=mongodb.database, driver=mongodb.driver)
