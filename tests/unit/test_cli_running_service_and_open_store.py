"""Where commands find the running service."""

import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_service.cli.open_client import open_client
from agent_service.cli.open_store import open_store
from agent_service.cli.running_service import find_api, find_mongodb
from agent_service.domain.errors import ConfigurationError
from agent_service.local.addresses import Addresses, published
from agent_service.local.servers import serve
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


async def test_the_store_of_commands_is_the_one_of_the_settings(tmp_path: Path) -> None:
    configured = settings(tmp_path, MONGODB_URI="mongodb://b.example:3/?directConnection=true")
    async with open_store(configured) as store:
        assert store.address == "b.example:3"


async def test_commands_send_the_key_that_is_set(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def answer(request: Request) -> Response:
        seen.append(request.headers.get("Authorization"))
        return JSONResponse({"id": "r1"})

    async with serve(Starlette(routes=[Route("/{path:path}", answer)])) as server:
        for values in ({}, {"AGENT_SERVICE_API_KEY": "ask_live_1_2"}):
            configured = settings(tmp_path, AGENT_SERVICE_URL=server.base_url, **values)
            assert "ask_live_1_2" not in repr(configured)
            async with open_client(configured) as client:
                await client.get("r1")
    assert seen == [None, "Bearer ask_live_1_2"]
    with pytest.raises(ConfigurationError, match="AGENT_SERVICE_API_KEY"):
        settings(tmp_path, AGENT_SERVICE_API_KEY="two words")
