"""The settings of callbacks: hosts, networks, secrets."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from agent_service.domain.callback import CallbackRules, PortRange
from agent_service.domain.errors import ConfigurationError
from agent_service.settings import Settings, describe, load_settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None, secrets_folder=None)


def test_callbacks_are_off_unless_a_host_is_allowed() -> None:
    callback = load().callback
    assert callback.rules == CallbackRules(allowed_hosts=(), allow_http=False)
    assert (callback.secret, callback.allowed_networks) == (None, ())


def test_hosts_and_networks_are_lists() -> None:
    callback = load(
        CALLBACK_ALLOWED_HOSTS="Hooks.example.org, *.example.com,hooks.example.org",
        CALLBACK_ALLOW_HTTP="true",
        CALLBACK_ALLOWED_PORTS="8443, 9000-9010",
        CALLBACK_ALLOWED_NETWORKS="10.1.0.0/16, fd00::/8,127.0.0.1",
    ).callback
    assert callback.rules == CallbackRules(
        allowed_hosts=("hooks.example.org", "*.example.com"),
        allow_http=True,
        allowed_ports=(PortRange(8443, 8443), PortRange(9000, 9010)),
    )
    assert callback.allowed_networks == (
        ip_network("10.1.0.0/16"),
        ip_network("fd00::/8"),
        ip_network("127.0.0.1/32"),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CALLBACK_ALLOWED_HOSTS", "*"),
        ("CALLBACK_ALLOWED_HOSTS", "*.org"),
        ("CALLBACK_ALLOWED_HOSTS", "https://hooks.example.org"),
        ("CALLBACK_ALLOWED_HOSTS", "hooks.example.org:8443"),
        ("CALLBACK_ALLOWED_HOSTS", "10.0.0.1"),
        ("CALLBACK_ALLOWED_HOSTS", "hooks.*.org"),
        ("CALLBACK_ALLOWED_PORTS", "https"),
        ("CALLBACK_ALLOWED_PORTS", "0"),
        ("CALLBACK_ALLOWED_PORTS", "9010-9000"),
        ("CALLBACK_ALLOWED_PORTS", "65535-65536"),
        ("CALLBACK_ALLOWED_NETWORKS", "10.1.0.1/16"),
        ("CALLBACK_ALLOWED_NETWORKS", "intranet"),
        ("CALLBACK_CONCURRENCY", "0"),
        ("CALLBACK_TIMEOUT", "0"),
    ],
)
def test_what_cannot_be_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is '.*: it must be"):
        load(**{name: text})


def test_a_wrong_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="CALLBACK_SECRET is wrong: it must be whsec_ and") as caught:
        load(CALLBACK_SECRET="whsec_short")
    assert "short" not in str(caught.value)


def test_secrets_come_from_a_file_too_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "callback_secret").write_text(f"{SECRET} {SECRET}\n")
    settings = load_settings({}, env_file=None, secrets_folder=tmp_path)
    assert settings.callback.secret is not None
    assert settings.callback.secret.get_secret_value() == f"{SECRET} {SECRET}"
    assert SECRET not in repr(settings)
    [row] = [row for row in describe(settings) if row.name == "CALLBACK_SECRET"]
    assert (row.value, row.source) == ("********", "secret file")
