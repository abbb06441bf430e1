"""Settings as a value: it cannot be changed and shows no secret."""

import pytest
from pydantic import ValidationError

from agent_service.settings import STANDARD_SERVICES, ServiceSettings, Settings, load_settings


def test_settings_cannot_be_changed() -> None:
    settings = Settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.api.port = 1
    with pytest.raises(TypeError):
        settings.services["more"] = ServiceSettings()  # type: ignore[index]  # that it fails is the point
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings.model_validate({"unknown": 1})


def test_the_standard_services_are_always_there() -> None:
    assert tuple(Settings().services) == STANDARD_SERVICES


def test_the_text_of_settings_shows_no_secret() -> None:
    secrets = {
        "MONGODB_URI": "mongodb://ann:hush@db",
        "SMTP_PASSWORD": "hush",
        "GENERATION_API_KEY": "hush",
        "GENERATION_BASE_URL": "http://ann:hush@host",
        "AGENT_SERVICE_URL": "http://ann:hush@host",
    }

    settings = load_settings(secrets, env_file=None, secrets_folder=None)

    assert "hush" not in f"{settings} {settings!r}"
