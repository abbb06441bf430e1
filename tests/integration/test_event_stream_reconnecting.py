"""Readers that lose their connection, or stop reading, at any event: nothing is missed or comes twice."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from agent_service.api import event_stream
from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.events import Chunk
from agent_service.domain.transitions import released
from agent_service.local import servers
from agent_service.local.servers import Server, serve
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.api import SUBMISSION, make_app
from tests.support.event_streams import SentEvent, read_stream
from tests.support.hand_worker import claim, end, success, work_off
from tests.support.log_lines import log_lines
from tests.support.waiting import until


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Server]:
    async with serve(make_app(store)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as client:
        yield client


async def stream(contexts: ContextManager, context: Context, *deltas: str) -> None:
    for seq, delta in enumerate(deltas, start=1):
        await contexts.store_chunk(
            Chunk(context_id=context.id, attempt=context.attempt, seq=seq, delta=delta, at=contexts.now())
        )


async def read_event_by_event(api: httpx2.AsyncClient, path: str) -> list[SentEvent]:
    """Each event over a connection of its own, which is dropped behind it."""
    seen: list[SentEvent] = []
    while True:
        headers = {"Last-Event-ID": seen[-1].id} if seen else {}
        async with api.stream("GET", path, headers=headers) as response:
            if response.status_code == 204:
                return seen
            seen.append(await anext(read_stream(response)))


async def test_a_reader_that_is_cut_off_at_every_event_sees_what_one_sees_that_never_is(
    api: httpx2.AsyncClient, requests: RequestService, contexts: ContextManager
) -> None:
    request_id = (await requests.submit(SUBMISSION)).request.id
    path = f"/v1/requests/{request_id}/events"
    async with asyncio.timeout(100):
        often = asyncio.create_task(read_event_by_event(api, path))
        (draft,) = await claim(contexts, "generation")
        await stream(contexts, draft, "lost ", "text ")
        await end(contexts, draft, released(at=contexts.now(), chunks=2))
        (draft,) = await claim(contexts, "generation")
        pieces = [f"{number} " for number in range(15)]
        await stream(contexts, draft, *pieces)
        await end(contexts, draft, success(contexts, draft, chunks=15))
        await work_off(contexts)
        async with api.stream("GET", path) as response:
            at_once = [event async for event in read_stream(response)]
        seen = await often
    assert len({event.id for event in seen}) == len(seen)
    last = [event for event in seen if (event.data.get("step"), event.data.get("attempt")) == ("draft", 2)]
    assert "".join(event.data.get("delta", "") for event in last) == "".join(pieces)
    # Whoever was there from the beginning may have seen more of the attempt that was replaced.
    known = {event.id for event in at_once}
    assert [event for event in seen if event.id in known] == at_once
    assert await read_event_by_event(api, path) == at_once


async def open_unread(server: Server, path: str) -> socket.socket:
    """A connection that has asked for a stream, and reads nothing of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (server.host, server.port))
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
    return connection


async def long_output(requests: RequestService, contexts: ContextManager) -> tuple[str, list[str]]:
    """The path of the events of a request with 12 MB of output, more than all buffers on the way hold."""
    request_id = (await requests.submit({"service": "generation", "input": "x"})).request.id
    (draft,) = await claim(contexts, "generation")
    pieces = [f"{number:03}" + "x" * 65_533 for number in range(180)]
    await stream(contexts, draft, *pieces)
    await end(contexts, draft, success(contexts, draft, chunks=len(pieces)))
    return f"/v1/requests/{request_id}/events", pieces


async def test_a_reader_that_takes_nothing_is_dropped_and_goes_on_where_it_was(
    store: Store,
    server: Server,
    api: httpx2.AsyncClient,
    requests: RequestService,
    contexts: ContextManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, pieces = await long_output(requests, contexts)
    with (
        monkeypatch.context() as patch,
        log_lines("INFO") as lines,
        await open_unread(server, path) as connection,
    ):
        patch.setattr(event_stream, "_SEND_LIMIT_SECONDS", 0.5)
        await until(lambda: any("takes nothing and is dropped" in line for line in lines), seconds=60)
        reader, writer = await asyncio.open_connection(sock=connection)
        async with asyncio.timeout(60):
            got = await reader.read()
        writer.close()
    # It never had more than what was on its way: the answer broke off in the middle.
    assert not got.endswith(b"0\r\n\r\n")
    assert len(got) < sum(map(len, pieces)) * 0.9
    whole = got[: got.rindex(b"\n\n")].decode()
    ids = re.findall(r"^id: (.+)$", whole, re.MULTILINE)
    seen = [
        json.loads(data)["delta"]
        for data in re.findall(r"^data: (.+)$", whole, re.MULTILINE)
        if "delta" in data
    ]
    async with asyncio.timeout(60), api.stream("GET", path, headers={"Last-Event-ID": ids[-1]}) as response:
        rest = [event async for event in read_stream(response)]
    assert seen + [event.data["delta"] for event in rest if "delta" in event.data] == pieces
    assert rest[-1].type == "request.completed"


async def test_the_connection_of_a_reader_that_never_takes_anything_is_thrown_away(
    store: Store, requests: RequestService, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_SEND_LIMIT_SECONDS", 0.5)
    monkeypatch.setattr(servers, "STUCK_MILLISECONDS", 1_000)
    path, _ = await long_output(requests, contexts)
    async with serve(make_app(store)) as server:
        with await open_unread(server, path) as connection:
            ends = (server.port, connection.getsockname()[1])
            assert ends in open_connections()
            await until(lambda: ends not in open_connections(), seconds=60)


def open_connections() -> set[tuple[int, int]]:
    """The ports, here and there, of the connections that this machine knows of, whatever their state."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {(_port(line.split()[1]), _port(line.split()[2])) for line in lines}


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)


async def test_a_quiet_stream_pings(store: Store, requests: RequestService) -> None:
    request_id = (await requests.submit({"service": "generation", "input": "x"})).request.id
    app = make_app(store, ping_every=timedelta(milliseconds=50))
    async with (
        serve(app) as server,
        httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as api,
        api.stream("GET", f"/v1/requests/{request_id}/events") as response,
        asyncio.timeout(60),
    ):
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if text.count(": ping\n\n") >= 3:
                break
    # On a busy machine the first one comes before the first event.
    events = text.replace(": ping\n\n", "")
    assert events.startswith("retry: 3000\n\nid: @0\nevent: request.accepted\ndata: {")
