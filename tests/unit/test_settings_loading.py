"""Settings are loaded from all sources, and all mistakes are reported together."""

from pathlib import Path

import pytest

from agent_service.domain.errors import ConfigurationError
from agent_service.settings import load_settings


def test_every_wrong_variable_is_named_in_one_error_and_no_secret_is_shown(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("LOG_LEVEL=loud\n")
    (tmp_path / "max_body_bytes").write_text("many\n")
    environ = {
        "MONGODB_URI": "mongo://ann:hush@db",
        "GENERATION_BASE_URL": "http://ann:hush@host:x",
        "ANALYSIS_POLL_INTERVAL": "0",
        "TRANSLATION_PROTOCOL": "grpc",
        "SERVICES": "translation,api,Nope",
    }

    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ, env_file=env_file, secrets_folder=tmp_path)

    text = str(caught.value)
    assert "hush" not in text
    assert text.splitlines() == [
        "8 settings are wrong:",
        "  SERVICES is wrong: the service name 'api' is taken by the variable API_HOST; choose another name",
        "  SERVICES is wrong: the service name 'Nope' must be a lower-case letter"
        " and at most 62 more of lower-case letters, digits and _",
        "  MONGODB_URI is wrong: it must be an address that begins with mongodb:// or mongodb+srv://",
        "  GENERATION_BASE_URL is wrong: it must be an http:// or https:// address"
        " without query and fragment",
        "  ANALYSIS_POLL_INTERVAL is '0': it must be a number of seconds above 0 (ten years at most)",
        "  TRANSLATION_PROTOCOL is 'grpc': it must be execute or openai",
        "  MAX_BODY_BYTES is 'many' (secret file): it must be a whole number of bytes above 0",
        "  LOG_LEVEL is 'loud' (.env): it must be TRACE, DEBUG, INFO, WARNING, ERROR or CRITICAL",
    ]
    # Nor does a traceback lead to an error that holds the values.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_further_service_has_all_settings() -> None:
    environ = {"SERVICES": "search,translation", "TRANSLATION_BASE_URL": "http://localhost:1"}

    settings = load_settings(environ, env_file=None, secrets_folder=None)

    assert settings.further_services == ("search", "translation")
    assert tuple(settings.services) == ("generation", "analysis", "communication", "search", "translation")
    assert settings.services["translation"].base_url == "http://localhost:1"
    assert settings.services["search"].base_url is None


@pytest.mark.parametrize("names", ["x,x_max", "x_max,x"])
def test_two_further_services_that_could_be_taken_for_one_another_are_refused(names: str) -> None:
    with pytest.raises(ConfigurationError, match="'x_max' is taken by the variable X_MAX_ATTEMPTS"):
        load_settings({"SERVICES": names}, env_file=None, secrets_folder=None)


def test_a_secret_comes_from_a_file_named_in_lower_case(tmp_path: Path) -> None:
    (tmp_path / "generation_api_key").write_text("hush\n")

    key = load_settings({}, env_file=None, secrets_folder=tmp_path).services["generation"].api_key

    assert key is not None
    assert key.get_secret_value() == "hush"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_api_key").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigurationError) as caught:
        load_settings({}, env_file=None, secrets_folder=tmp_path)

    assert str(caught.value) == "GENERATION_API_KEY: its secret file cannot be read (UnicodeDecodeError)"


def test_a_broken_env_file_is_reported_with_the_other_mistakes(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("nonsense here\n")

    with pytest.raises(ConfigurationError, match=r"2 settings are wrong:\n.*line 1 must be") as caught:
        load_settings({"API_PORT": "x"}, env_file=env_file, secrets_folder=None)

    assert "API_PORT is 'x'" in str(caught.value)


def test_empty_values_count_as_not_set() -> None:
    environ = dict.fromkeys(("MONGODB_URI", "API_PORT", "GENERATION_BASE_URL", "SERVICES", "LOG_LEVEL"), "")

    settings = load_settings(environ, env_file=None, secrets_folder=None)

    assert settings == load_settings({}, env_file=None, secrets_folder=None)
