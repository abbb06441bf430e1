"""The health checks, against what really runs."""

import socket
from dataclasses import replace
from datetime import timedelta

import pytest

from agent_service.cli.health import Health, api_health, worker_health
from agent_service.main import serving_api
from agent_service.settings import Settings, load_settings
from agent_service.store import Store
from agent_service.store.workers import SILENT_AFTER, SignOfLife
from tests.support.fleets import a_sign


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
    return a_sign(store, age=age.total_seconds(), id=f"{host}-{age}", host=host)


async def test_the_api_is_healthy_while_it_serves_a_ready_database(settings: Settings, store: Store) -> None:
    async with serving_api(settings, store):
        assert await api_health(settings) == Health()
    assert "does not answer" in ((await api_health(settings)).problem or "")


async def test_only_a_living_worker_of_this_machine_is_healthy(settings: Settings, store: Store) -> None:
    await store.workers.report(sign_of(store, host="elsewhere.example.org"))
    await store.workers.report(sign_of(store, host=socket.gethostname(), age=SILENT_AFTER * 2))
    assert "no worker on" in ((await worker_health(settings)).problem or "")
    await store.workers.report(sign_of(store, host=socket.gethostname()))
    assert (await worker_health(settings)).problem is None


async def test_the_worst_lag_of_the_event_loops_of_this_machine_is_told(
    settings: Settings, store: Store
) -> None:
    here = socket.gethostname()
    for age, lag, host in ((1, 0.2, here), (2, 2.54, here), (3, 9.0, "elsewhere.example.org")):
        sign = sign_of(store, host=host, age=timedelta(seconds=age))
        await store.workers.report(replace(sign, loop_lag=timedelta(seconds=lag)))
    assert await worker_health(settings) == Health(remark="event loop late by 2.5 s at most")


async def report_process(
    store: Store, number: int, of: int, *, age: float = 1, up: float = 60, queue: str = "default"
) -> None:
    """The sign of one of several processes of this machine, `up` seconds after its start."""
    sign = a_sign(store, age=age, id=f"{queue}-{number}-{of}-{up}", host=socket.gethostname())
    started = sign.seen_at - timedelta(seconds=up)
    await store.workers.report(
        replace(sign, process=number, processes=of, started_at=started, queues=(queue,))
    )


async def test_each_of_several_processes_has_to_live(settings: Settings, store: Store) -> None:
    # Those that work for something else are none of these.
    for number in (1, 2, 3):
        await report_process(store, number, 3, queue="night")
    await report_process(store, 1, 3)
    await report_process(store, 3, 3)
    silent = "process 2 of 3 of the generation worker on"
    assert silent in ((await worker_health(settings)).problem or "")
    await report_process(store, 2, 3)
    assert (await worker_health(settings)).problem is None


async def test_processes_that_were_killed_before_there_were_fewer_are_not_missed(
    settings: Settings, store: Store
) -> None:
    await report_process(store, 2, 4, age=40, up=600)
    for number in (1, 2):
        await report_process(store, number, 2, up=10)
    assert (await worker_health(settings)).problem is None


async def test_without_a_mongodb_a_worker_cannot_be_seen(tmp_path: object) -> None:
    environ = {"AGENT_SERVICE_DATA": str(tmp_path)}
    bare = load_settings(environ, env_file=None, secrets_folder=None)
    assert "MONGODB_URI" in ((await worker_health(bare)).problem or "")
