"""The settings of one base service."""

from datetime import timedelta
from pathlib import Path

import pytest

from agent_service.domain.errors import ConfigurationError
from agent_service.settings import ServiceSettings, service_settings


def _read(service: str, **environ: str) -> ServiceSettings:
    return service_settings(service, environ, env_file=None, secrets_folder=None)


def test_a_service_has_the_defaults_of_the_design() -> None:
    service = _read("generation")

    assert (service.base_url, service.api_key, service.model) == (None, None, None)
    assert service.poll_interval == timedelta(seconds=10)
    assert (service.concurrency, service.batch_size, service.max_attempts) == (10, 10, 5)
    assert service.timeout == timedelta(seconds=120)
    assert service.lease == timedelta(seconds=30)
    assert service.protocol == "execute"


def test_a_service_that_nothing_else_names_can_be_read() -> None:
    service = _read(
        "translation",
        TRANSLATION_BASE_URL="http://localhost:9000/",
        TRANSLATION_API_KEY="hush",
        TRANSLATION_POLL_INTERVAL="0.5",
        TRANSLATION_LEASE_SECONDS="1",
        TRANSLATION_PROTOCOL="openai",
        TRANSLATION_MODEL="small",
    )

    assert service.base_url == "http://localhost:9000"
    assert service.api_key is not None
    assert service.api_key.get_secret_value() == "hush"
    assert service.poll_interval == timedelta(milliseconds=500)
    assert (service.protocol, service.model) == ("openai", "small")


def test_the_batch_is_as_large_as_the_concurrency_unless_it_is_set() -> None:
    assert _read("analysis", ANALYSIS_CONCURRENCY="40").batch_size == 40
    assert _read("analysis", ANALYSIS_CONCURRENCY="40", ANALYSIS_BATCH_SIZE="7").batch_size == 7


def test_a_wrong_concurrency_is_one_mistake_and_not_two() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _read("analysis", ANALYSIS_CONCURRENCY="1001")

    assert str(caught.value) == "ANALYSIS_CONCURRENCY is '1001': it must be a whole number from 1 to 1000"


def test_only_the_variables_of_the_service_can_be_wrong() -> None:
    assert _read("analysis", API_PORT="none", GENERATION_TIMEOUT="x") == ServiceSettings()


def test_a_service_cannot_have_a_name_that_is_taken() -> None:
    with pytest.raises(ConfigurationError, match="'log' is taken by the variable LOG_LEVEL"):
        _read("log")


def test_the_environment_is_read_when_nothing_is_handed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("ANALYSIS_TIMEOUT=7\n")
    monkeypatch.setenv("ANALYSIS_MAX_ATTEMPTS", "3")

    service = service_settings("analysis")

    assert (service.timeout, service.max_attempts) == (timedelta(seconds=7), 3)


def test_the_text_of_a_service_shows_neither_key_nor_address() -> None:
    service = _read("analysis", ANALYSIS_API_KEY="hush", ANALYSIS_BASE_URL="http://ann:hush@host")

    assert "hush" not in f"{service} {service!r}"
