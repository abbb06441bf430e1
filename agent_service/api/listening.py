"""Where the API may listen, and what reaches it there; loads no web framework."""

import ipaddress
import socket

from loguru import logger

from agent_service.domain.errors import ConfigurationError
from agent_service.domain.hosts import LOOPBACK_HOSTS
from agent_service.keys.key_file import KeyFile
from agent_service.settings import ApiSettings


def check_listening(settings: ApiSettings) -> None:
    """Raise ConfigurationError when the API may not, or cannot, be served as configured."""
    if needs_keys(settings) and settings.allow_anonymous:
        raise ConfigurationError(
            "API_ALLOW_ANONYMOUS is true, and API_KEYS_FILE or API_REQUIRE_KEYS asks for API keys:"
            " leave one out"
        )
    if not is_loopback(settings.host) and not needs_keys(settings) and not settings.allow_anonymous:
        raise ConfigurationError(
            f"API_HOST is {settings.host!r}, and no API keys are asked for: anyone who reaches it could"
            " submit requests. Set API_HOST to 127.0.0.1; or make keys with `agent-service keys create` and"
            " set API_KEYS_FILE, or API_REQUIRE_KEYS=true for keys in MongoDB; or set"
            " API_ALLOW_ANONYMOUS=true if that is what you want"
        )
    if settings.keys_file is not None:
        KeyFile(settings.keys_file).keys()
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


def needs_keys(settings: ApiSettings) -> bool:
    """Whether nobody is served without a key, whatever else there is."""
    return settings.keys_file is not None or settings.require_keys


def admitted_hosts(settings: ApiSettings) -> frozenset[str] | None:
    """The names under which the API may be asked; None where any will do."""
    if needs_keys(settings) or settings.allow_anonymous:
        return None
    return LOOPBACK_HOSTS | {settings.host}


def say_who_is_served(settings: ApiSettings) -> None:
    """Log whether API keys are asked for."""
    if needs_keys(settings):
        logger.info("the API asks for API keys")
    elif is_loopback(settings.host):
        logger.info("the API serves this machine only, and asks for API keys once the first one is made")
    else:
        logger.warning(
            "ANYONE who reaches {}:{} can submit and read requests: API_ALLOW_ANONYMOUS is true, and API keys"
            " are asked for only once the first one is made",
            settings.host,
            settings.port,
        )


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
