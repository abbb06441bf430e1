"""The types of settings that need a check of their own; a ValueError without words means "see must_be"."""

import re
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from agent_service.domain.callback import PortRange, is_host_name
from agent_service.domain.webhook_signature import read_secrets

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
#: Longer than this is a mistake, and would overflow what dates can hold.
LONGEST = timedelta(days=3650)

LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LogFormat = Literal["console", "json"]
MongoDriver = Literal["pymongo", "motor"]
Protocol = Literal["execute", "openai"]

_DATABASE_NAME = re.compile(r"[^/\\. \"$*<>:|?\0]{1,63}")
_VISIBLE = re.compile(r"[!-~]+")
_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
_LARGEST_PORT = 65_535
_MONGODB_SCHEMES = ("mongodb://", "mongodb+srv://")


def duration(*, unit: timedelta = SECOND, at_least: timedelta = timedelta(microseconds=1)) -> BeforeValidator:
    """A length of time that is written as a number of `unit`."""

    def parse(value: object) -> timedelta:
        if not isinstance(value, timedelta):
            try:
                value = float(str(value)) * unit
            except (OverflowError, ValueError):
                raise ValueError from None
        if not at_least <= value <= LONGEST:
            raise ValueError
        return value

    return BeforeValidator(parse)


def check_http_address(value: str) -> str:
    """The address without trailing slashes; user and password may stand in it."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Its text may hold a piece of the password.
        raise ValueError from None
    if not usable or "?" in value or "#" in value or not value.isprintable() or " " in value:
        raise ValueError
    return value.rstrip("/")


def check_mongodb_uri(value: SecretStr) -> SecretStr:
    """The address as it is; the driver checks the rest of it."""
    if not value.get_secret_value().startswith(_MONGODB_SCHEMES):
        raise ValueError
    return value


def check_header_value(value: SecretStr) -> SecretStr:
    """The text as it is, if a header can carry it."""
    if not _VISIBLE.fullmatch(value.get_secret_value()):
        raise ValueError
    return value


def check_database_name(value: str) -> str:
    """The name, if MongoDB accepts it on every platform."""
    if not _DATABASE_NAME.fullmatch(value) or len(value.encode()) > 63:
        raise ValueError
    return value


def check_webhook_secrets(value: SecretStr) -> SecretStr:
    """The secrets as they are written."""
    read_secrets(value.get_secret_value())
    return value


def parse_allowed_hosts(value: str | Sequence[str]) -> tuple[str, ...]:
    """Names of hosts in lower case, separated by commas; `*.` stands for all names below one."""
    hosts = tuple(dict.fromkeys(item.lower() for item in _list_items(value)))
    if not all(is_host_name(host.removeprefix("*.")) for host in hosts):
        raise ValueError
    return hosts


def parse_networks(value: str | Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks, or single addresses, separated by commas."""
    return tuple(ip_network(item) for item in _list_items(value))


def parse_ports(value: str | Sequence[PortRange]) -> tuple[PortRange, ...]:
    """Ports and ranges of ports (9000-9010, both ends included), separated by commas."""
    return tuple(_ports(item) for item in _list_items(value))


def _ports(text: str) -> PortRange:
    if not _PORTS.fullmatch(text):
        raise ValueError
    first, _, last = text.partition("-")
    ports = PortRange(int(first), int(last or first))
    if not 0 < ports.first <= ports.last <= _LARGEST_PORT:
        raise ValueError
    return ports


def _list_items(value: str | Sequence[object]) -> Sequence[str]:
    items = value.split(",") if isinstance(value, str) else map(str, value)
    return [item.strip() for item in items if item.strip()]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


HttpAddress: TypeAlias = Annotated[str, AfterValidator(check_http_address)]
MongoUri: TypeAlias = Annotated[SecretStr, AfterValidator(check_mongodb_uri)]
BearerToken: TypeAlias = Annotated[SecretStr, AfterValidator(check_header_value)]
WebhookSecrets: TypeAlias = Annotated[SecretStr, AfterValidator(check_webhook_secrets)]
HostName: TypeAlias = Annotated[str, Field(pattern=r"^[^\s/@]+$")]
DatabaseName: TypeAlias = Annotated[str, AfterValidator(check_database_name)]
UPPER_CASE = BeforeValidator(_upper)
LOWER_CASE = BeforeValidator(_lower)
