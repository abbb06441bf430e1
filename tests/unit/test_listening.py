"""Where the API may listen."""

import socket
from pathlib import Path
from typing import Any

import pytest

from agent_service.api.listening import (
    address_of,
    admitted_hosts,
    check_listening,
    is_loopback,
    say_who_is_served,
)
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.hosts import LOOPBACK_HOSTS
from agent_service.settings import ApiSettings
from tests.support.log_lines import log_lines


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_what_listens_everywhere_is_reached_on_the_loopback(host: str, address: str) -> None:
    assert address_of(host, 80) == address


def test_anonymous_use_from_elsewhere_must_be_allowed() -> None:
    with pytest.raises(ConfigurationError, match="API_ALLOW_ANONYMOUS=true"):
        check_listening(ApiSettings(host="0.0.0.0", port=0))
    check_listening(ApiSettings(host="0.0.0.0", port=0, allow_anonymous=True))


@pytest.mark.parametrize("keys", [{"require_keys": True}, {"keys_file": Path("keys")}])
def test_who_asks_for_keys_may_listen_everywhere_and_under_any_name(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("keys").touch()
    settings = ApiSettings(host="0.0.0.0", port=0, **keys)
    check_listening(settings)
    assert admitted_hosts(settings) is None
    with pytest.raises(ConfigurationError, match="leave one out"):
        check_listening(ApiSettings(port=0, allow_anonymous=True, **keys))


def test_a_wrong_key_file_is_found_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="line 1 is no API key"):
        check_listening(ApiSettings(port=0, keys_file=tmp_path / "keys"))


def test_without_keys_only_the_names_of_this_machine_are_answered() -> None:
    assert admitted_hosts(ApiSettings()) == LOOPBACK_HOSTS
    assert admitted_hosts(ApiSettings(allow_anonymous=True)) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ApiSettings(), "serves this machine only"),
        (ApiSettings(require_keys=True), "asks for API keys"),
        (ApiSettings(host="0.0.0.0", allow_anonymous=True), "ANYONE who reaches 0.0.0.0:8000"),
    ],
)
def test_it_is_said_who_is_served(settings: ApiSettings, said: str) -> None:
    with log_lines("INFO") as lines:
        say_who_is_served(settings)
    assert said in "".join(lines)


def test_a_taken_port_is_found_before_anything_is_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"API_PORT {port} cannot be listened on"):
            check_listening(ApiSettings(port=port))
