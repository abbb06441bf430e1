"""The names of this machine, and the host that a header of HTTP names; for guards against DNS rebinding."""

from urllib.parse import urlsplit

#: What this machine calls itself.
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def host_of_header(value: str) -> str | None:
    """The name in a `Host` header, without its port; None where there is none."""
    return host_of_origin(f"//{value}")


def host_of_origin(value: str) -> str | None:
    """The name in an `Origin`, without its port; None where there is none, as in `null`."""
    try:
        return urlsplit(value).hostname
    except ValueError:
        return None
