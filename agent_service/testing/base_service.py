"""
ScriptedBaseService: a base service on loopback that does what a test tells it, and remembers its calls.

    async with ScriptedBaseService() as service:
        service.script(fail(503), complete({"text": "hallo"}), step="translate")
        worker = TranslationWorker(store, base_url=service.url)
        ...
        assert service.calls[0].input == {"text": "hello"}

It speaks HTTP/1.1 over bare sockets, because a well-behaved server library could not break it.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from agent_service.testing.behaviours import echo
from agent_service.testing.calls import DEADLINE_SECONDS, Behaviour, RecordedCall, Reply
from agent_service.testing.script import Script, Selector

#: A call to a path that begins so is answered without its body being read.
UNREAD_PREFIX = "/unread"


class ScriptedBaseService:
    """
    Listens on a free port of 127.0.0.1 while its block runs; entered again, on the same one.

    What nothing was scripted for gets `default`, which completes the step with what it was called with.
    """

    def __init__(self, *, default: Behaviour = echo) -> None:
        #: Every call so far, in the order in which they arrived.
        self.calls: list[RecordedCall] = []
        #: How many connections were opened.
        self.connections = 0
        self.port = 0
        self._script = Script(default)
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL, for a worker's `base_url` or the variable `<SERVICE>_BASE_URL`."""
        return f"http://127.0.0.1:{self.port}"

    def url_for(self, service: str) -> str:
        """A base URL of its own for a service, where one of these stands for several."""
        return f"{self.url}/{service}"

    def script(
        self,
        *behaviours: Behaviour,
        step: str | None = None,
        attempt: int | None = None,
        service: str | None = None,
        context_id: str | None = None,
        times: int | None = None,
    ) -> None:
        """
        Behave so in the calls that fit: one behaviour for each call, the last for all that follow.

        Where several of these fit a call, the one that was made last counts. With `times` it is for so many
        calls only. `service` needs a base URL of `url_for`.
        """
        selector = Selector(service=service, step=step, context_id=context_id, attempt=attempt)
        self._script.add(*behaviours, selector=selector, times=times)

    def forget(self) -> None:
        """Drop the script and the calls."""
        self._script.clear()
        self.calls.clear()

    def calls_for(self, *, step: str | None = None, service: str | None = None) -> Sequence[RecordedCall]:
        """The calls so far for a step, to a service, or both."""
        selector = Selector(step=step, service=service)
        return [call for call in self.calls if selector.fits(call)]

    async def wait_for_calls(self, count: int = 1, *, step: str | None = None) -> RecordedCall:
        """
        Wait until so many calls have arrived, for this step if one is named, and return the last of them.

        Raises TimeoutError after 10 s.
        """
        async with asyncio.timeout(DEADLINE_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls_for(step=step)) >= count)
            return self.calls_for(step=step)[count - 1]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._open, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop every connection; entering again listens on the same port."""
        if self._server is not None:
            server, self._server = self._server, None
            await _close(server)
        self.drop_connections()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_connections(self) -> None:
        """Close every connection, idle or not, and go on listening."""
        for task in list(self._tasks):
            task.cancel()

    def _open(self) -> asyncio.Protocol:
        self.connections += 1
        number = self.connections
        reader = asyncio.StreamReader(limit=2**20)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._server is None:  # The event loop had taken this one already when the service stopped.
                writer.close()
                return
            task = asyncio.create_task(self._serve(reader, writer, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            # Not in the task: one that is cancelled before its first step runs no line of its own.
            task.add_done_callback(lambda _: writer.close())

        return _WatchedProtocol(reader, accept, lambda: self._mark_closed(number))

    def _mark_closed(self, connection: int) -> None:
        for call in self.calls:
            if call.connection == connection:
                call.closed.set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            keep_alive = True
            while keep_alive and (call := await _read_call(reader, connection)) is not None:
                behaviour = self._script.choose(call)
                async with self._arrived:
                    self.calls.append(call)
                    self._arrived.notify_all()
                reply = Reply(writer)
                await behaviour(call, reply)
                keep_alive = reply.keep_alive
        except (ConnectionError, asyncio.IncompleteReadError):
            pass


async def _close(server: asyncio.Server) -> None:
    """
    Stop listening, and lose no connection meanwhile.

    An asyncio server that is closed between accepting a connection and giving it a protocol, one turn of the
    event loop later, leaves that connection open and unread. So it stops to accept first.
    """
    with suppress(NotImplementedError):  # Windows' event loop has no readers.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    server.close()


class _WatchedProtocol(asyncio.StreamReaderProtocol):
    """Tells at once when the other end closes, although nobody is reading."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None],
        on_close: Callable[[], None],
    ) -> None:
        super().__init__(reader, accept)
        self._on_close = on_close

    def eof_received(self) -> bool | None:
        self._on_close()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_close()
        super().connection_lost(exc)


async def _read_call(reader: asyncio.StreamReader, connection: int) -> RecordedCall | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    body = b"" if path.startswith(UNREAD_PREFIX) else await reader.readexactly(length)
    return RecordedCall(method=method, path=path, headers=headers, body=body, connection=connection)
