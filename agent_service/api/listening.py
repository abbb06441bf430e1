"""Where the API may listen, and what reaches it there; loads no web framework."""

import ipaddress
import socket

from agent_service.domain.errors import ConfigurationError
from agent_service.settings import ApiSettings

#: What this machine calls itself.
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def check_listening(settings: ApiSettings) -> None:
    """Raise ConfigurationError when the API may not, or cannot, be served as configured."""
    if settings.keys_file is not None:
        raise ConfigurationError("API_KEYS_FILE is set, but this version knows no API keys yet: leave it out")
    if not is_loopback(settings.host) and not settings.allow_anonymous:
        raise ConfigurationError(
            f"API_HOST is {settings.host!r}, and there are no API keys: anyone who reaches it could submit"
            " requests. Set API_HOST to 127.0.0.1, or API_ALLOW_ANONYMOUS=true if that is what you want"
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigurationError(
                f"API_HOST {settings.host} and API_PORT {settings.port} cannot be listened on:"
                f" {error.strerror}. Set API_PORT to another port, or to 0 for a free one"
            ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`; of names, only localhost counts."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(host: str, port: int) -> str:
    """The URL that reaches, from this machine, what listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
