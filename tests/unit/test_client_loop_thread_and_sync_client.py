"""SyncAgentClient: without asyncio, beside it, and in several threads; the server has a thread of its own."""

import asyncio
import gc
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from agent_service.client import AgentClient, SyncAgentClient, loop_thread, pace
from agent_service.domain.errors import ConfigurationError, RequestNotFound
from tests.support.commands import interruptible, wait_until
from tests.support.scripted_api import DRAINING, frame, served, streaming

LIMIT = 30.0


class Api:
    """Has one request that can be followed, broken off once, and an endless one."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def __call__(self, request: Request) -> Response:
        path = request.url.path
        if path == "/v1/requests/endless/events":
            return StreamingResponse(self._endless(), media_type="text/event-stream")
        if path.endswith("/events"):
            if request.headers.get("Last-Event-ID") is None:
                return streaming(frame("output.delta", "@0,a:1.1", step="a", attempt=1, delta="x"), DRAINING)
            return streaming(frame("request.completed", "@end,a:end"))
        if path == "/v1/requests":
            return JSONResponse({"id": "r1", "requests": [{"id": "r1"}], "next": None})
        if path == "/v1/requests:batch":
            return JSONResponse({"results": [{"id": "r1"}]}, 202)
        return JSONResponse({"id": "r1", "status": "completed"}, 404 if "missing" in path else 200)

    async def _endless(self) -> Any:
        try:
            yield frame("request.accepted", "@0")
            while True:
                await asyncio.sleep(0.02)
                yield ": ping\n\n"
        finally:
            self.left.set()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(pace, "FIRST_PAUSE", timedelta(0))
    return Api()


@pytest.fixture
def client(api: Api) -> Iterator[SyncAgentClient]:
    with served(api) as address, SyncAgentClient(address) as client:
        yield client


def use_everything(client: SyncAgentClient) -> None:
    assert client.ready() is None
    assert client.submit(service="analysis", input=1).id == "r1"
    assert [item.id for item in client.submit_many([{"service": "analysis", "input": 1}])] == ["r1"]
    assert client.get("r1").id == client.cancel("r1").id == client.retry("r1").id == "r1"
    assert client.wait("r1").completed
    assert client.result("r1", timeout=timedelta(seconds=LIMIT)).completed
    assert [event.type for event in client.stream("r1")] == ["output.delta", "request.completed"]
    assert [piece.text for piece in client.text("r1")] == ["x"]
    assert [request.id for request in client.list(limit=1)] == ["r1"]
    with pytest.raises(RequestNotFound):
        client.get("missing")


def test_every_method_works_in_a_plain_script(client: SyncAgentClient) -> None:
    use_everything(client)


async def test_every_method_works_beside_a_running_event_loop(client: SyncAgentClient) -> None:
    use_everything(client)


def test_threads_can_share_a_client(client: SyncAgentClient) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            use_everything(client)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_it_has_what_the_asynchronous_client_has() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        found = {name: list(inspect.signature(method).parameters) for name, method in methods}
        return {name: names for name, names in found.items() if not name.startswith("_")}

    assert public(SyncAgentClient) == public(AgentClient)
    assert inspect.signature(SyncAgentClient) == inspect.signature(AgentClient)


def waits_in_client(thread: int) -> bool:
    """Whether this thread is within `LoopThread.run`."""
    frames = traceback.extract_stack(sys._current_frames()[thread])
    return any(frame.name == "run" and frame.filename == loop_thread.__file__ for frame in frames)


def leave(events: Iterator[object]) -> None:
    """Stop reading, and leave the rest to the garbage collector."""
    del events


@pytest.mark.parametrize("stop", [lambda events: events.close(), leave])
def test_whoever_stops_reading_ends_the_connection(
    api: Api, client: SyncAgentClient, stop: Callable[[Any], None]
) -> None:
    events = client.stream("endless")
    assert next(events).type == "request.accepted"
    stop(events)
    del events
    gc.collect()
    assert api.left.wait(LIMIT)


def test_an_interrupt_ends_the_call_and_the_client_goes_on(api: Api, client: SyncAgentClient) -> None:
    main = threading.main_thread().ident or 0

    def interrupt() -> None:
        wait_until(lambda: waits_in_client(main), "the test waits for an event")
        signal.pthread_kill(main, signal.SIGINT)

    events = client.stream("endless")
    next(events)
    thread = threading.Thread(target=interrupt)
    with interruptible():
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            next(events)
    thread.join()
    assert api.left.wait(LIMIT)
    assert client.get("r1").id == "r1"


def test_a_closed_client_says_so_and_can_be_closed_again(api: Api) -> None:
    before = threading.active_count()
    with served(api) as address:
        with SyncAgentClient(address) as client:
            events = client.stream("endless")
            next(events)
        client.close()
        assert api.left.wait(LIMIT)
        with pytest.raises(RuntimeError, match="closed"):
            client.get("r1")
        with pytest.raises(RuntimeError, match="closed"):
            next(events)
    assert threading.active_count() == before


def test_a_client_that_cannot_be_made_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(ConfigurationError):
        SyncAgentClient("http://127.0.0.1:9", api_key="no key")
    assert threading.active_count() == before


def test_it_shows_what_it_speaks_to() -> None:
    with SyncAgentClient("http://127.0.0.1:9") as client:
        assert repr(client) == "SyncAgentClient(http://127.0.0.1:9)"
