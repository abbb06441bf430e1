"""Server and `serve`: an ASGI application on a port of its own, inside the running event loop."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from loguru import logger
from starlette.types import ASGIApp

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.connection_limits import USUAL_LIMITS, ConnectionLimits
from agent_service.local.lingering import LingeringProtocol

#: How long open answers (streams for instance) may go on after the stop; then they are cancelled.
STOP_GRACE_SECONDS = 5
#: How long a connection stays open after its last answer.
KEEP_ALIVE_SECONDS = 5
#: The longest that a stop may take in all.
STOP_LIMIT_SECONDS = 8.0
_POLL_SECONDS = 0.005
#: What a client has not taken after this long is thrown away with its connection, which nobody can close
#: before: closing waits until everything is sent.
STUCK_MILLISECONDS = 60_000


class Server:
    """A server that accepts connections until it is stopped."""

    def __init__(self, host: str, port: int, running: asyncio.Task[None]) -> None:
        self.host = host
        self.port = port
        self._running = running
        bracketed = f"[{host}]" if ":" in host else host
        self.base_url = f"http://{bracketed}:{port}"

    async def wait_until_ended(self) -> None:
        """Wait until nothing is served any more; raises what it ended with."""
        await asyncio.shield(self._running)


class _EmbeddedServer(uvicorn.Server):
    """Leaves the process's signal handlers alone: whoever composes the process decides what they mean."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, limits: ConnectionLimits = USUAL_LIMITS
) -> AsyncIterator[Server]:
    """
    Serve `app` while the block runs, within these limits; port 0 takes a free one.

    Leaving the block takes a few seconds at most, also with streams open. Raises LocalPartUnavailable when
    the address is taken or the application does not start.
    """
    listener = _listen(host, port)
    # All is said here, so that no environment and nothing that is installed besides chooses another parser.
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        # Who says that it is a proxy is believed nothing.
        proxy_headers=False,
        # Which software answers is nobody's business.
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_GRACE_SECONDS,
    )
    server = _EmbeddedServer(config)
    running = asyncio.create_task(_run(server, listener), name=f"serve:{listener.getsockname()[1]}")
    try:
        while not server.started:
            if running.done():
                raise LocalPartUnavailable(f"the application for {host}:{port} failed while it started")
            await asyncio.sleep(_POLL_SECONDS)
        yield Server(host, listener.getsockname()[1], running)
    finally:
        server.should_exit = True
        await asyncio.shield(_finish(running))
        listener.close()


def _protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """The class of protocols with these limits: uvicorn makes them itself, and asks for a class."""
    turned_away = set[LingeringProtocol]()

    class Limited(LingeringProtocol):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, limits=limits, turned_away=turned_away, **options)

    return Limited


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which holds answers back, only where a socket says that it is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it from their listener, where the system has it.
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MILLISECONDS)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise LocalPartUnavailable(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


async def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn answers a failed start of the application with sys.exit; that must not end this process.
    try:
        await server.serve(sockets=[listener])
    except SystemExit as error:
        logger.error("an application failed while it started (exit code {})", error.code)


async def _finish(running: asyncio.Task[None]) -> None:
    _, unfinished = await asyncio.wait({running}, timeout=STOP_LIMIT_SECONDS)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(running, return_exceptions=True)
