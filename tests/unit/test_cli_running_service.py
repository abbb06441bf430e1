"""Where commands find the running service."""

import os
from pathlib import Path

import pytest

from agent_service.cli.running_service import find_api, find_mongodb
from agent_service.domain.errors import ConfigurationError
from agent_service.local.addresses import Addresses, published
from agent_service.settings import Settings, load_settings


def settings(folder: Path, **values: str) -> Settings:
    environ = {"AGENT_SERVICE_DATA": str(folder), **values}
    return load_settings(environ, env_file=None, secrets_folder=None)


def test_a_running_dev_is_found_unless_another_address_is_set(tmp_path: Path) -> None:
    addresses = Addresses(
        pid=os.getpid(),
        api_url="http://127.0.0.1:1",
        mongodb_uri="mongodb://127.0.0.1:2/",
        base_urls={},
        outbox=None,
    )
    configured = settings(tmp_path, AGENT_SERVICE_URL="https://a.example", MONGODB_URI="mongodb://b.example/")
    with published(addresses, tmp_path):
        assert find_api(settings(tmp_path)) == "http://127.0.0.1:1"
        assert find_mongodb(settings(tmp_path)) == "mongodb://127.0.0.1:2/"
        assert find_api(configured) == "https://a.example"
        assert find_mongodb(configured) == "mongodb://b.example/"


def test_without_a_running_dev_the_variable_to_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AGENT_SERVICE_URL"):
        find_api(settings(tmp_path))
    with pytest.raises(ConfigurationError, match="MONGODB_URI"):
        find_mongodb(settings(tmp_path))
