"""Misspelt variables are noticed, foreign ones are left in peace."""

import pytest

from agent_service.settings import load_settings


def _warn(*names: str, services: str = "") -> tuple[str, ...]:
    environ = {**dict.fromkeys(names, "1"), "SERVICES": services}
    return load_settings(environ, env_file=None, secrets_folder=None).warnings


def test_a_misspelt_name_of_a_service_is_answered_with_the_right_one() -> None:
    assert _warn("GENERATION_POLL_INTERVALL") == (
        "GENERATION_POLL_INTERVALL is not a setting; did you mean GENERATION_POLL_INTERVAL?",
    )
    assert _warn("TRANSLATION_BASE_URI", services="translation") == (
        "TRANSLATION_BASE_URI is not a setting; did you mean TRANSLATION_BASE_URL?",
    )


def test_a_name_of_a_service_that_is_like_no_other_is_told_without_a_guess() -> None:
    assert _warn("GENERATION_XQ") == ("GENERATION_XQ is not a setting",)


def test_other_names_are_only_told_when_they_are_very_much_like_ours() -> None:
    assert _warn("MONGODB_URL", "LOG_COLOR", "API_TOKEN", "PATH", "TRANSLATION_BASE_URL") == (
        "MONGODB_URL is not a setting; did you mean MONGODB_URI?",
    )


@pytest.mark.parametrize(
    "name",
    [
        "GENERATION_SERVICE_HOST",
        "GENERATION_SERVICE_PORT",
        "GENERATION_SERVICE_PORT_HTTP",
        "GENERATION_PORT",
        "GENERATION_PORT_80_TCP",
        "GENERATION_PORT_80_TCP_ADDR",
        "GENERATION_PORT_53_UDP_PROTO",
        "GENERATION_V2_SERVICE_HOST",
    ],
)
def test_what_kubernetes_injects_is_no_mistake(name: str) -> None:
    assert _warn(name) == ()


def test_a_service_whose_name_begins_like_another_is_no_mistake() -> None:
    assert _warn("GENERATION_FAST_MODEL", services="generation_fast") == ()


def test_a_port_that_kubernetes_injected_is_told_as_ignored() -> None:
    settings = load_settings({"API_PORT": "tcp://10.0.0.1:80"}, env_file=None, secrets_folder=None)

    assert settings.api.port == 8000
    assert [warning.partition(" and is ")[0] for warning in settings.warnings] == [
        "API_PORT looks as if Kubernetes had injected it"
    ]
