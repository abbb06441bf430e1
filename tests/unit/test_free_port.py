"""A free port can be listened on."""

import socket

from agent_service.local.free_port import LOOPBACK, free_port


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))
        listener.listen()
        assert listener.getsockname() == (LOOPBACK, port)
