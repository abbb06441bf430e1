"""The health checks, against what really runs."""

import socket
from datetime import timedelta

import pytest

from agent_service.cli.health import SILENCE_LIMIT, find_api_problem, find_worker_problem
from agent_service.main import serving_api
from agent_service.settings import Settings, load_settings
from agent_service.store import Store
from agent_service.store.workers import SignOfLife


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def settings(mongodb_uri: str, database_name: str, free_port: int, tmp_path: object) -> Settings:
    environ = {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DATABASE": database_name,
        "API_PORT": str(free_port),
        "AGENT_SERVICE_DATA": str(tmp_path),
    }
    return load_settings(environ, env_file=None, secrets_folder=None)


def sign_of(store: Store, *, host: str, age: timedelta = timedelta(0)) -> SignOfLife:
    return SignOfLife(
        id=f"{host}-{age}",
        service="generation",
        queues=("default",),
        host=host,
        pid=1,
        concurrency=1,
        running=0,
        started_at=store.clock.now(),
        seen_at=store.clock.now() - age,
    )


async def test_the_api_is_healthy_while_it_serves_a_ready_database(settings: Settings, store: Store) -> None:
    async with serving_api(settings, store):
        assert await find_api_problem(settings) is None
    assert "does not answer" in (await find_api_problem(settings) or "")


async def test_only_a_living_worker_of_this_machine_is_healthy(settings: Settings, store: Store) -> None:
    await store.workers.report(sign_of(store, host="elsewhere.example.org"))
    await store.workers.report(sign_of(store, host=socket.gethostname(), age=SILENCE_LIMIT * 2))
    assert "no worker on" in (await find_worker_problem(settings) or "")
    await store.workers.report(sign_of(store, host=socket.gethostname()))
    assert await find_worker_problem(settings) is None


async def test_without_a_mongodb_a_worker_cannot_be_seen(tmp_path: object) -> None:
    environ = {"AGENT_SERVICE_DATA": str(tmp_path)}
    bare = load_settings(environ, env_file=None, secrets_folder=None)
    assert "MONGODB_URI" in (await find_worker_problem(bare) or "")
