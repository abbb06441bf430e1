"""ServiceAddress: a base URL, taken apart once, with its credentials kept out of every message."""

from base64 import b64encode
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from agent_service.domain.errors import ConfigurationError


class ServiceAddress:
    """
    Where a base service listens.

    A path and a query of the base URL are kept; user and password become an `Authorization` header.
    Raises ConfigurationError when the text is no http or https address.
    """

    def __init__(self, base_url: str) -> None:
        parts = _split(base_url)
        self._parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
        self.basic_authorization = _basic_authorization(parts)
        #: The password in it, as a service gets to see it.
        self.password = None if parts.password is None else unquote(parts.password)

    def url(self, path: str) -> str:
        """The address of `path` (starting with a slash) below the base URL."""
        return urlunsplit(self._parts._replace(path=self._parts.path.rstrip("/") + path))

    def __str__(self) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}"


def _split(base_url: str) -> SplitResult:
    text = base_url.strip()
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = SplitResult("", "", "", "", ""), False
    if not usable or any(character.isspace() for character in text):
        # Without the value: it may hold a password.
        raise ConfigurationError(
            "the base URL of a base service must look like http://host:port/path, with http or https"
        )
    return parts


def _basic_authorization(parts: SplitResult) -> str | None:
    if parts.username is None and parts.password is None:
        return None
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"
