"""How a call ends when the service does not end it: in time, and with the connection closed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
import pytest

from agent_service.base_services.client import BaseServiceClient
from agent_service.domain.errors import BaseServiceUnavailable
from tests.support.base_service_behaviours import (
    Behaviour,
    RecordedCall,
    Reply,
    answer,
    delayed,
    events,
    hang,
    stream,
    trickle,
)
from tests.support.base_service_clients import Service, each_kind, make_call, service
from tests.support.base_service_stub import BaseServiceStub

STREAM = {"Content-Type": "text/event-stream"}
SHORT = timedelta(seconds=0.3)
#: Far beyond that, and below the usual limit of a call; in seconds.
PATIENT = 8

SILENCES: dict[str, tuple[Behaviour, bool]] = {
    "no answer": (hang(), False),
    "silent stream": (events({"delta": "a"}, then=hang()), True),
    "trickling stream": (trickle(b'data: {"delta": "a"}\n\n', every=0.02, headers=STREAM), True),
    "trickling comments": (trickle(b": still here\n\n", every=0.02, headers=STREAM), True),
    "trickling json": (trickle(b" ", every=0.02, headers={}), True),
}


async def ends_at(it: Service, *, seconds: float) -> BaseServiceUnavailable:
    """How a call ended that was given so long."""
    began = time.monotonic()
    error = await it.unavailable(timeout=timedelta(seconds=seconds))
    assert seconds * 0.8 < time.monotonic() - began < PATIENT
    return error


@each_kind
@pytest.mark.parametrize("name", SILENCES)
async def test_a_call_ends_at_its_limit_whatever_the_service_does(kind: str, name: str) -> None:
    behaviour, answered = SILENCES[name]
    async with service(kind) as it:
        it.stub.behave(behaviour)
        # On a busy machine an answer takes its time to begin.
        error = await ends_at(it, seconds=0.4)
        if not it.stub.calls or error.answered != answered:
            error = await ends_at(it, seconds=4)
        assert (error.code, error.answered) == ("timeout", answered)
        await it.stub.calls[0].wait_closed()


@pytest.mark.conformance
@each_kind
async def test_a_taker_that_never_returns_cannot_outlast_the_limit(kind: str) -> None:
    async def never(delta: str) -> None:
        await asyncio.Event().wait()

    async with service(kind) as it:
        it.on_delta = never
        it.stub.behave(events({"delta": "a"}, {"output": 1}))
        assert (await it.unavailable(timeout=SHORT)).code == "timeout"


async def test_a_call_without_time_left_sends_nothing() -> None:
    async with service() as it:
        error = await it.unavailable(timeout=timedelta(0))
        assert (error.code, error.answered, it.stub.connections) == ("timeout", False, 0)


@each_kind
@pytest.mark.parametrize("name", SILENCES)
async def test_a_cancelled_call_closes_its_connection(kind: str, name: str) -> None:
    async with service(kind) as it:
        it.stub.behave(SILENCES[name][0], answer({"output": 2}))
        call = asyncio.create_task(it.call())
        arrived = await it.stub.wait_for_calls()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await arrived.wait_closed()
        assert (await it.call()).output == 2


@pytest.mark.conformance
@each_kind
async def test_a_cancelled_taker_cancels_the_call(kind: str) -> None:
    async def cancelled(delta: str) -> None:
        raise asyncio.CancelledError

    async with service(kind) as it:
        it.on_delta = cancelled
        it.stub.behave(events({"delta": "a"}, then=hang()))
        with pytest.raises(asyncio.CancelledError):
            await it.call()
        await it.stub.calls[0].wait_closed()


@each_kind
async def test_a_service_that_stays_connected_after_its_answer_is_not_waited_for(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(events({"output": 1}, then=hang()), answer({"output": 2}))
        began = time.monotonic()
        assert (await it.call()).output == 1
        assert time.monotonic() - began < PATIENT
        await it.stub.calls[0].wait_closed()
        assert (await it.call()).output == 2


@each_kind
async def test_an_answer_that_is_there_when_the_limit_comes_is_taken(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.base_services.body.DRAIN_SECONDS", 60)
    async with service(kind) as it:
        it.stub.behave(events({"output": 1}, then=hang()))
        assert (await it.call(timeout=timedelta(seconds=2))).output == 1
        await it.stub.calls[0].wait_closed()


@each_kind
async def test_the_limit_of_a_call_is_told_from_a_timeout_of_the_taker(kind: str) -> None:
    async def late(delta: str) -> None:
        raise TimeoutError("of the taker")

    async with service(kind) as it:
        it.on_delta = late
        it.stub.behave(events({"delta": "a"}, {"output": 1}))
        with pytest.raises(TimeoutError, match="of the taker"):
            await it.call()


@pytest.mark.conformance
@each_kind
async def test_a_service_that_goes_on_after_its_answer_is_cut_off(kind: str) -> None:
    more = [b'data: {"output": 1}\n\n', *[b": " + b"x" * 65536 + b"\n"] * 2000]
    async with service(kind) as it:
        it.stub.behave(stream(more, headers=STREAM))
        assert (await it.call()).output == 1
        await it.stub.calls[0].wait_closed()


@each_kind
async def test_many_calls_at_a_time_each_get_their_own_answer(kind: str) -> None:
    async def echo(call: RecordedCall, reply: Reply) -> None:
        await answer({"output": call.json()["input"]})(call, reply)

    async with service(kind, concurrency=20) as it:
        it.stub.behave(echo)
        answers = await asyncio.gather(*(it.call(input=number) for number in range(200)))
        assert [got.output for got in answers] == list(range(200))
        assert len(it.stub.calls) == 200


async def test_only_as_many_calls_as_there_are_connections_are_in_flight() -> None:
    release = asyncio.Event()
    async with service(concurrency=2) as it:
        it.stub.behave(delayed(release, answer({"output": 1})))
        calls = [asyncio.create_task(it.call()) for _ in range(3)]
        await it.stub.wait_for_calls(2)
        error = await it.unavailable(timeout=SHORT)
        assert (error.code, error.answered, len(it.stub.calls)) == ("timeout", False, 2)
        release.set()
        await asyncio.gather(*calls)
        assert it.stub.connections == 2


class _StuckStream(httpx2.AsyncByteStream):
    """A body that does not end and cannot be closed, deaf to every cancellation."""

    def __init__(self, released: asyncio.Event, body: bytes) -> None:
        self._released = released
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        while not self._released.is_set():
            try:
                await self._released.wait()
            except asyncio.CancelledError:
                continue


@asynccontextmanager
async def stuck(body: bytes) -> AsyncIterator[Service]:
    released = asyncio.Event()

    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=STREAM, stream=_StuckStream(released, body))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as http_client:
        client = BaseServiceClient(base_url="http://stuck", http_client=http_client)
        try:
            yield Service(BaseServiceStub(), client)
        finally:
            released.set()
            await client.close()


async def test_a_close_that_hangs_holds_up_neither_the_limit_nor_a_cancellation() -> None:
    began = time.monotonic()
    async with stuck(b": nothing yet\n") as it:
        assert (await it.unavailable(timeout=SHORT)).code == "timeout"
        call = asyncio.create_task(it.call())
        await asyncio.wait({call}, timeout=0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - began < 5


async def test_a_close_that_hangs_does_not_cost_the_answer() -> None:
    began = time.monotonic()
    async with stuck(b'data: {"output": 1}\n\n') as it:
        assert (await it.call()).output == 1
        assert time.monotonic() - began < 5


def test_a_call_cannot_be_changed_once_made() -> None:
    with pytest.raises(AttributeError):
        make_call().attempt = 2  # type: ignore[misc]  # the point of the test
