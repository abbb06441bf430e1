"""ConnectionLimits: what clients may have a server hold before anybody knows who they are."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """
    `connections` may be open at a time; more are refused, and the log says so.

    A head has `head_bytes` and `headers` at most, and arrives within `head_timeout` of its first byte, which
    arrives within as much of the opening of its connection. What is sent is taken within `take_timeout`, or
    so much of it that the rest need not be waited for.
    """

    connections: int = 1_000
    head_bytes: int = 32 * 1024
    headers: int = 100
    head_timeout: timedelta = timedelta(seconds=10)
    take_timeout: timedelta = timedelta(minutes=1)


#: What applies where nothing is configured.
USUAL_LIMITS = ConnectionLimits()
