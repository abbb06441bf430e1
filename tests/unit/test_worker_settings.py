from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_service.domain.errors import ConfigurationError
from agent_service.store import Store
from agent_service.workers.worker_base import ClientWorker
from agent_service.workers.worker_settings import WorkerArguments, WorkerSettings, resolve

NAMES = tuple(WorkerArguments.__slots__)
LONGEST_RETENTION = timedelta(days=3)


@pytest.fixture(autouse=True)
def no_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to run in, so that no `.env` is found."""
    monkeypatch.chdir(tmp_path)


def settings(service: str = "generation", /, **given: Any) -> WorkerSettings:
    return resolve(service, WorkerArguments(**{**dict.fromkeys(NAMES), **given}))


def test_the_environment_gives_everything_that_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "GENERATION_BASE_URL": "http://generation.example.org/v1",
        "GENERATION_API_KEY": "a-secret",
        "GENERATION_POLL_INTERVAL": "2.5",
        "GENERATION_CONCURRENCY": "7",
        "GENERATION_BATCH_SIZE": "3",
        "GENERATION_TIMEOUT": "11",
        "GENERATION_LEASE_SECONDS": "12",
        "GENERATION_PROTOCOL": "openai",
        "GENERATION_MODEL": "small",
        "SHUTDOWN_GRACE_SECONDS": "13",
        "RETENTION_DAYS": "3",
        "PRIORITY_AGEING_SECONDS": "14",
    }.items():
        monkeypatch.setenv(name, text)
    assert settings() == WorkerSettings(
        base_url="http://generation.example.org/v1",
        api_key="a-secret",
        poll_interval=timedelta(seconds=2.5),
        concurrency=7,
        batch_size=3,
        timeout=timedelta(seconds=11),
        lease=timedelta(seconds=12),
        protocol="openai",
        model="small",
        shutdown_grace=timedelta(seconds=13),
        retention=LONGEST_RETENTION,
        priority_ageing=timedelta(seconds=14),
    )


def test_what_was_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATION_BASE_URL", "http://other.example.org")
    monkeypatch.setenv("GENERATION_API_KEY", "other")
    monkeypatch.setenv("GENERATION_TIMEOUT", "99")
    monkeypatch.setenv("SHUTDOWN_GRACE_SECONDS", "99")
    found = settings(base_url="http://mine.example.org", api_key="mine", timeout=1, shutdown_grace=0)
    assert (found.base_url, found.api_key) == ("http://mine.example.org", "mine")
    assert (found.timeout, found.shutdown_grace) == (timedelta(seconds=1), timedelta(0))


def test_each_service_reads_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATION_TIMEOUT", "99")
    monkeypatch.setenv("TRANSLATION_TIMEOUT", "5")
    assert settings("translation").timeout == timedelta(seconds=5)
    assert settings("analysis").timeout == timedelta(seconds=120)


@pytest.mark.parametrize("length", [timedelta(seconds=1.5), 1.5])
def test_a_length_of_time_is_a_timedelta_or_seconds(length: timedelta | float) -> None:
    found = settings(poll_interval=length, timeout=length, lease_seconds=length, shutdown_grace=length)
    assert {found.poll_interval, found.timeout, found.lease, found.shutdown_grace} == {timedelta(seconds=1.5)}


def test_a_batch_that_was_not_asked_for_is_never_larger_than_the_concurrency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings(concurrency=4).batch_size == 4
    assert settings(concurrency=20).batch_size == 20
    monkeypatch.setenv("GENERATION_BATCH_SIZE", "9")
    assert settings(concurrency=4).batch_size == 4
    assert settings(concurrency=20).batch_size == 9
    assert settings(concurrency=4, batch_size=2).batch_size == 2


@pytest.mark.parametrize("name", ["poll_interval", "timeout", "lease_seconds", "concurrency", "batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_value_that_nothing_could_work_with_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match="the generation worker needs"):
        settings(**{name: value})


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATION_CONCURRENCY", "many")
    with pytest.raises(ConfigurationError, match="GENERATION_CONCURRENCY"):
        settings()


async def test_one_queue_is_not_mistaken_for_the_queues_that_are_its_letters() -> None:
    async with Store.connect("mongodb://127.0.0.1:9") as store:
        with pytest.raises(ConfigurationError, match="queues"):
            ClientWorker(store, service="generation", queues="urgent")
