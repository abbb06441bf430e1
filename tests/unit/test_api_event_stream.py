import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import pytest
from starlette.types import Message

from agent_service.api import event_stream
from agent_service.api.event_frames import OPENING, PING, draining_frame, event_frame, unauthorized_frame
from agent_service.api.event_stream import EventStream
from agent_service.domain.errors import RequestNotFound, StoreError
from agent_service.domain.events import Cursor, Event, EventType
from tests.support.contexts import NOW

EVENT = Event(type=EventType.REQUEST_ACCEPTED, request_id="r", at=NOW, cursor=Cursor(accepted=True))
LONG = timedelta(seconds=60)


class Wire:
    """What a server would be: takes what is sent, and says when the client is gone."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.draining = asyncio.Event()
        self.closed = asyncio.Event()
        self.withdrawn = asyncio.Event()
        #: What the check of the reader's key raises when it ends, if it does not return.
        self.fault: Exception | None = None
        self.start: Message = {}
        self.bodies: asyncio.Queue[Message] = asyncio.Queue()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            await self.bodies.put(message)

    async def check(self) -> None:
        await self.withdrawn.wait()
        if self.fault is not None:
            raise self.fault

    async def next(self) -> bytes:
        async with asyncio.timeout(10):
            body: bytes = (await self.bodies.get())["body"]
            return body

    async def events(
        self, *events: Event, error: Exception | None = None
    ) -> AsyncGenerator[Sequence[Event], None]:
        """These events, and then, unless it fails, silence."""
        try:
            for event in events:
                yield [event]
            if error is not None:
                raise error
            await asyncio.Event().wait()
        finally:
            self.closed.set()

    def serve(
        self, events: AsyncGenerator[Sequence[Event], None], *, ping_every: timedelta = LONG
    ) -> asyncio.Task[None]:
        stream = EventStream(
            events,
            request_id="r",
            draining=self.draining,
            withdrawn=self.check,
            ping_every=ping_every,
        )
        return asyncio.create_task(stream({"type": "http"}, self.receive, self.send))


async def finished(serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        await serving


async def test_a_stream_sends_events_pings_when_idle_and_ends_when_the_client_goes() -> None:
    wire = Wire()
    serving = wire.serve(wire.events(EVENT), ping_every=timedelta(milliseconds=10))
    assert [await wire.next() for _ in range(4)] == [OPENING, event_frame(EVENT), PING, PING]
    headers = dict(wire.start["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"]) == (b"no-cache", b"no")
    assert b"content-length" not in headers
    wire.gone.set()
    await finished(serving)
    assert wire.closed.is_set()


async def test_a_stopping_process_says_so_and_ends_the_stream() -> None:
    wire = Wire()
    serving = wire.serve(wire.events(EVENT))
    assert [await wire.next(), await wire.next()] == [OPENING, event_frame(EVENT)]
    wire.draining.set()
    await finished(serving)
    last = wire.bodies.get_nowait()
    assert (last["body"], last["more_body"]) == (draining_frame("r"), False)
    assert wire.closed.is_set()


async def test_a_reader_whose_key_is_withdrawn_is_told_so_and_the_stream_ends() -> None:
    wire = Wire()
    serving = wire.serve(wire.events(EVENT))
    assert [await wire.next(), await wire.next()] == [OPENING, event_frame(EVENT)]
    wire.withdrawn.set()
    await finished(serving)
    last = wire.bodies.get_nowait()
    assert (last["body"], last["more_body"]) == (unauthorized_frame("r"), False)
    assert wire.closed.is_set()


@pytest.mark.parametrize(
    ("fault", "has_traceback"),
    [(RuntimeError("bug"), True), (StoreError("refused"), False)],
    ids=["a_fault_of_ours", "a_refused_login"],
)
async def test_a_reader_whose_key_cannot_be_checked_is_told_to_connect_again_and_nothing_untrue(
    warnings: list[str], fault: Exception, has_traceback: bool
) -> None:
    wire = Wire()
    wire.fault = fault
    serving = wire.serve(wire.events(EVENT))
    assert [await wire.next(), await wire.next()] == [OPENING, event_frame(EVENT)]
    wire.withdrawn.set()
    await finished(serving)
    last = wire.bodies.get_nowait()
    assert (last["body"], last["more_body"]) == (draining_frame("r"), False)
    assert wire.closed.is_set()
    assert len(warnings) == 1
    assert str(fault) in warnings[0]
    assert ("Traceback" in warnings[0]) == has_traceback


async def test_a_request_that_is_removed_meanwhile_ends_its_stream() -> None:
    wire = Wire()
    await finished(wire.serve(wire.events(EVENT, error=RequestNotFound("r"))))
    assert [await wire.next(), await wire.next()] == [OPENING, event_frame(EVENT)]
    assert wire.bodies.get_nowait() == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_fault_of_ours_cuts_the_stream() -> None:
    wire = Wire()
    with pytest.raises(RuntimeError, match="bug"):
        await finished(wire.serve(wire.events(EVENT, error=RuntimeError("bug"))))
    assert wire.closed.is_set()


async def test_a_server_that_cancels_the_answer_closes_the_events() -> None:
    wire = Wire()
    serving = wire.serve(wire.events(EVENT))
    assert [await wire.next(), await wire.next()] == [OPENING, event_frame(EVENT)]
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert wire.closed.is_set()


async def test_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_SEND_LIMIT_SECONDS", 0.02)
    wire = Wire()
    wire.bodies = asyncio.Queue(maxsize=1)
    await finished(wire.serve(wire.events(EVENT)))
    assert wire.closed.is_set()
