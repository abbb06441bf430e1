"""Free ports, for servers that cannot be told to take one and to say which."""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback on which nobody listens; somebody else may be quicker to take it."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
