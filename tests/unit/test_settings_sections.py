"""The sections: types, limits and defaults of the single values."""

from datetime import timedelta
from pathlib import Path

import pytest

from agent_service.domain.errors import ConfigurationError
from agent_service.settings import Settings, load_settings


def _load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None, secrets_folder=None)


def test_the_defaults_are_those_of_the_design() -> None:
    settings = _load()

    assert settings.mongodb.uri is None
    assert (settings.mongodb.database, settings.mongodb.driver) == ("agent_service", "pymongo")
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 8000)
    assert (settings.api.keys_file, settings.api.allow_anonymous) == (None, False)
    assert settings.api.max_body_bytes == 1024 * 1024
    assert settings.request_deadline == timedelta(days=1)
    assert settings.retention == timedelta(days=7)
    assert settings.shutdown_grace == timedelta(seconds=30)
    assert settings.agent_service_url is None
    assert settings.data_folder == Path(".agent-service")
    assert (settings.log.level, settings.log.format) == ("INFO", "console")
    assert settings.smtp.host is None
    assert settings == Settings()


def test_each_section_takes_its_values() -> None:
    settings = _load(
        MONGODB_DRIVER="Motor",
        MONGOD_BINARY="/opt/mongod",
        API_PORT="0",
        API_ALLOW_ANONYMOUS="true",
        API_KEYS_FILE="/etc/keys",
        LOG_LEVEL="debug",
        LOG_FORMAT="JSON",
        SMTP_HOST="mail.example.org",
        SMTP_PORT="25",
        SMTP_STARTTLS="false",
        SMTP_PASSWORD="hush",
        RETENTION_DAYS="0.5",
        SHUTDOWN_GRACE_SECONDS="0",
    )

    assert settings.mongodb.driver == "motor"
    assert settings.mongodb.mongod_binary == Path("/opt/mongod")
    assert (settings.api.port, settings.api.allow_anonymous) == (0, True)
    assert settings.api.keys_file == Path("/etc/keys")
    assert (settings.log.level, settings.log.format) == ("DEBUG", "json")
    assert (settings.smtp.host, settings.smtp.port, settings.smtp.starttls) == ("mail.example.org", 25, False)
    assert settings.smtp.password is not None
    assert settings.smtp.password.get_secret_value() == "hush"
    assert settings.retention == timedelta(hours=12)
    assert settings.shutdown_grace == timedelta(0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "65536"),
        ("API_PORT", "-1"),
        ("API_HOST", "http://x"),
        ("MAX_BODY_BYTES", "0"),
        ("API_ALLOW_ANONYMOUS", "perhaps"),
        ("MONGODB_DRIVER", "mongoengine"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("SMTP_PORT", "0"),
        ("RETENTION_DAYS", "0"),
        ("REQUEST_DEADLINE_SECONDS", "soon"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
    ],
)
def test_a_value_beyond_its_limits_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is '{value}': it must be "):
        _load(**{name: value})
