"""An API that answers as a test says, and a client of it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from agent_service.client import AgentClient
from agent_service.local.servers import serve

Answer = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
#: For clients that are to give up at once.
IMPATIENT: dict[str, Any] = {"patience": timedelta(0), "following_patience": timedelta(0)}
#: How long the start of a server may take, in seconds.
_LIMIT = 30.0
DRAINING = 'event: server.draining\ndata: {"type": "server.draining"}\n\n'


def scripted_app(answer: Answer) -> ASGIApp:
    """An application with one answer to everything; the body of the call is read before."""

    async def endpoint(request: Request) -> Response:
        await request.body()
        answered = answer(request)
        return answered if isinstance(answered, Response) else await answered

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])


@asynccontextmanager
async def answering(answer: Answer, **options: Any) -> AsyncIterator[AgentClient]:
    """A client of such an application."""
    async with (
        serve(scripted_app(answer)) as server,
        AgentClient(server.base_url, **options) as client,
    ):
        yield client


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """The address of such an application, which runs in another thread."""
    ready, address, loop, over = threading.Event(), list[str](), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with serve(scripted_app(answer)) as server:
            address.append(server.base_url)
            ready.set()
            await over.wait()

    def thread() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    running = threading.Thread(target=thread)
    running.start()
    try:
        assert ready.wait(_LIMIT)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        running.join()


class Script:
    """Gives its answers one after the other, and keeps what was asked for."""

    def __init__(self, *answers: Response) -> None:
        self._answers = answers
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        return self._answers[len(self.asked) - 1]

    def headers(self, name: str) -> list[str | None]:
        """This header of all that was asked for."""
        return [request.headers.get(name) for request in self.asked]


def frame(kind: str, cursor: str, **data: object) -> str:
    """One event of a stream."""
    return f"id: {cursor}\nevent: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def streaming(*frames: str) -> Response:
    """A stream that ends after these frames."""
    return StreamingResponse(_each(frames), media_type="text/event-stream")


def aborting(text: str) -> Response:
    """A stream whose connection breaks after this text."""
    # The server closes the connection of an answer that is shorter than it declared.
    headers = {"Content-Length": str(len(text.encode()) + 1)}
    return StreamingResponse(_each([text]), media_type="text/event-stream", headers=headers)


async def _each(frames: Iterable[str]) -> AsyncIterator[str]:
    for each in frames:
        yield each
