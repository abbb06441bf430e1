"""Where the API may listen."""

import socket

import pytest

from agent_service.api.listening import address_of, check_listening, is_loopback
from agent_service.domain.errors import ConfigurationError
from agent_service.settings import ApiSettings


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


def test_a_taken_port_is_found_before_anything_is_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"API_PORT {port} cannot be listened on"):
            check_listening(ApiSettings(port=port))
