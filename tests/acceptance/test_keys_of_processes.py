"""API keys and limits with API processes as they are deployed, and commands as they are typed."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from agent_service.local.free_port import free_port
from tests.support.api import SUBMISSION
from tests.support.api_keys import bearing
from tests.support.commands import RunningModule, run_command, running_module
from tests.support.waiting import answered

pytestmark = pytest.mark.timeout(300)


class NotYet(Exception):
    """The answer is not the one that is waited for."""


@pytest.fixture
def values(mongodb_uri: str, database_name: str) -> dict[str, str]:
    return {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database_name}


def typed(folder: Path, values: Mapping[str, str], *words: str) -> str:
    result = run_command(words, folder=folder, values=values)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@asynccontextmanager
async def serving(folder: Path, values: Mapping[str, str]) -> AsyncIterator[tuple[str, RunningModule]]:
    """An API process, from when it is ready; its address."""
    port = free_port()
    with running_module(
        "agent_service", ["api"], folder=folder, values={**values, "API_PORT": str(port)}
    ) as api:
        address = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=address) as client:

            async def ready() -> None:
                assert api.process.poll() is None, "".join(api.errors)
                if (await client.get("/readyz")).status_code != 200:
                    raise NotYet

            await answered(ready, NotYet, httpx2.HTTPError)
        yield address, api


async def wait_for(client: httpx2.AsyncClient, status: int, **options: object) -> None:
    """Until a request that is not there is answered with this status."""

    async def look() -> None:
        response = await client.get("/v1/requests/none", **options)  # type: ignore[arg-type]  # handed on
        if response.status_code != status:
            raise NotYet(f"{response.status_code}: {response.text}")

    await answered(look, NotYet)


async def test_the_first_key_closes_a_running_api_and_a_revoked_one_opens_nothing(
    values: dict[str, str], tmp_path: Path
) -> None:
    async with serving(tmp_path, values) as (address, api), httpx2.AsyncClient(base_url=address) as client:
        api.wait_for("serves this machine only")
        await wait_for(client, 404)
        text = await asyncio.to_thread(typed, tmp_path, values, "keys", "create", "acme")
        await wait_for(client, 401)
        await wait_for(client, 404, headers=bearing(text))
        key_id = text.split("_")[2]
        await asyncio.to_thread(typed, tmp_path, values, "keys", "revoke", key_id)
        await wait_for(client, 401, headers=bearing(text))
        assert text not in "".join(api.errors)


async def test_an_api_with_a_key_file_asks_for_its_keys_from_the_first_call_on(
    values: dict[str, str], tmp_path: Path
) -> None:
    text = await asyncio.to_thread(typed, tmp_path, {}, "keys", "create", "acme", "--file", "keys.jsonl")
    # Nobody is there who could be asked, and nobody is let in for that.
    away = {**values, "API_KEYS_FILE": "keys.jsonl", "MONGODB_URI": "mongodb://127.0.0.1:9/"}
    port = free_port()
    with running_module(
        "agent_service", ["api"], folder=tmp_path, values={**away, "API_PORT": str(port)}
    ) as api:
        await asyncio.to_thread(api.wait_for, "the API listens on")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            assert (await client.get("/v1/requests/none")).status_code == 401
            assert (await client.get("/v1/requests/none", headers=bearing(text))).status_code == 503


async def test_two_api_processes_keep_one_limit(values: dict[str, str], tmp_path: Path) -> None:
    limited = {**values, "API_REQUIRE_KEYS": "true", "ORGANIZATION_MAX_OPEN_REQUESTS": "25"}
    text = await asyncio.to_thread(typed, tmp_path, values, "keys", "create", "acme")
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(2):
            folder = tmp_path / str(number)
            os.mkdir(folder)
            address, _ = await stack.enter_async_context(serving(folder, limited))
            client = httpx2.AsyncClient(base_url=address, headers=bearing(text), timeout=60)
            clients.append(await stack.enter_async_context(client))
        taken = 0

        async def submit(client: httpx2.AsyncClient) -> bool:
            response = await client.post("/v1/requests", json=SUBMISSION)
            assert response.status_code in (202, 429), response.text
            assert response.status_code == 202 or int(response.headers["retry-after"]) > 0
            return response.status_code == 202

        async def fill() -> None:
            nonlocal taken
            taken += sum(await asyncio.gather(*(submit(client) for client in clients * 20)))
            if taken < 25:
                raise NotYet

        await answered(fill, NotYet)
        assert not any(await asyncio.gather(*(submit(client) for client in clients * 10)))
    assert taken == 25
