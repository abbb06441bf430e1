"""
A base service of our own on loopback, as kind or as hostile as a test wants it.

    async with BaseServiceStub() as stub:
        stub.behave(answer({"output": 1}))
        ...
        assert stub.calls[0].json()["input"] == "x"

It speaks HTTP/1.1 over bare sockets, because a well-behaved server library could not break it.
"""

import asyncio
from collections.abc import Callable
from typing import Self

from tests.support.base_service_behaviours import DEADLINE_SECONDS, Behaviour, RecordedCall, Reply, answer

#: A call to a path that begins so is answered without its body being read.
UNREAD_PREFIX = "/unread"


class BaseServiceStub:
    """Listens on a free port of 127.0.0.1; records each call and answers it with the next behaviour."""

    def __init__(self) -> None:
        self.calls: list[RecordedCall] = []
        self.connections = 0
        self.port = 0
        self._behaviours: list[Behaviour] = [answer({"output": "done"})]
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, *behaviours: Behaviour) -> None:
        """One for each call from now on, the last for all that follow."""
        self._behaviours = list(behaviours)

    async def wait_for_calls(self, count: int = 1) -> RecordedCall:
        """Wait until so many calls have arrived, and return the last of them."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= count)
            return self.calls[count - 1]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._open, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop every connection; entering again listens on the same port."""
        if self._server is not None:
            self._server.close()
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
            task = asyncio.create_task(self._serve(reader, writer, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
                behaviour = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
                async with self._arrived:
                    self.calls.append(call)
                    self._arrived.notify_all()
                reply = Reply(writer)
                await behaviour(call, reply)
                keep_alive = reply.keep_alive
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


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
