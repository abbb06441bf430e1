"""Base URLs, with the path kept and the credentials out of sight."""

from base64 import b64decode

import pytest

from agent_service.base_services.address import ServiceAddress
from agent_service.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://host:8001", "http://host:8001/execute"),
        ("http://host/", "http://host/execute"),
        ("https://host/a/v1/", "https://host/a/v1/execute"),
        ("http://[::1]:80/x", "http://[::1]:80/x/execute"),
        ("https://host/v1?api-version=3#top", "https://host/v1/execute?api-version=3"),
        ("http://user:secret@host/v1", "http://host/v1/execute"),
        (" http://host\n", "http://host/execute"),
    ],
)
def test_the_path_goes_below_the_base_url(base_url: str, url: str) -> None:
    assert ServiceAddress(base_url).url("/execute") == url


def test_credentials_become_a_header_and_are_never_shown() -> None:
    address = ServiceAddress("https://us%40er:s%3Acret@host:1/path")
    kind, _, value = (address.basic_authorization or "").partition(" ")
    assert (kind, b64decode(value)) == ("Basic", b"us@er:s:cret")
    assert str(address) == "https://host:1"
    assert set(address.secrets) == {"s%3Acret", "s:cret", value}
    assert ServiceAddress("https://host").basic_authorization is None
    assert ServiceAddress("https://user@host").secrets == ServiceAddress("https://host").secrets == ()


def test_a_handshake_is_known_by_the_scheme() -> None:
    assert ServiceAddress("https://host").is_encrypted
    assert not ServiceAddress("http://host").is_encrypted


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "host:80",
        "ftp://pass@host",
        "http://",
        "http://pass@:80",
        "http://pass@h:99999",
        "http://[pass",
        "http://a pass",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(base_url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ServiceAddress(base_url)
    assert "pass" not in str(caught.value)
