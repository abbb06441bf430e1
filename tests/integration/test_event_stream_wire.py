"""What comes out of a real server's socket, byte by byte, is the text that is stored."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import httpx
import httpx2
import pytest
from httpx_sse import aconnect_sse

from agent_service.client import AgentClient
from agent_service.context_manager import ContextManager
from agent_service.domain.events import Chunk
from agent_service.local.servers import Server, serve
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.api import make_app
from tests.support.base_service_behaviours import RecordedCall, Reply
from tests.support.base_service_stub import BaseServiceStub
from tests.support.event_streams import SentEvent, read_stream
from tests.support.hand_worker import claim, end, success
from tests.support.worker_tools import ended, running, submit

#: Each of these is, to some parser, the end of a line or something else than text.
HOSTILE = [
    "line\u2028separator",
    "paragraph\u2029separator",
    "next\u0085line",
    "\r",
    "\r\n",
    "\n\n",
    "trailing newlines\n\n",
    "",
    "\0",
    "\x0b\x0c\x1c\x1d\x1e",
    "data: x\n\nid: @end\nevent: request.completed\n\n",
    ": ping",
    " leading",
    "\ufeff",
    "\U0001f9ea\u200d\u2695\ufe0f",
    "\uffff\U0010ffff",
]
Parse: TypeAlias = Callable[[str, str], Coroutine[Any, Any, list[SentEvent]]]


async def with_httpx_sse(base_url: str, request_id: str) -> list[SentEvent]:
    async with (
        httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=60) as client,
        aconnect_sse(client, "GET", f"/v1/requests/{request_id}/events") as source,
    ):
        return [
            SentEvent(type=sent.event, id=sent.id, data=json.loads(sent.data))
            async for sent in source.aiter_sse()
            if sent.data
        ]


async def with_httpx2(base_url: str, request_id: str) -> list[SentEvent]:
    async with (
        httpx2.AsyncClient(base_url=base_url, trust_env=False, timeout=60) as client,
        client.stream("GET", f"/v1/requests/{request_id}/events") as response,
    ):
        return [event async for event in read_stream(response)]


async def with_our_client(base_url: str, request_id: str) -> list[SentEvent]:
    async with AgentClient(base_url) as client:
        return [
            SentEvent(type=event.type, id=event.id, data=dict(event.raw))
            async for event in client.stream(request_id)
        ]


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Server]:
    async with serve(make_app(store)) as server:
        yield server


async def stored_text(store: Store, request_id: str) -> str:
    page = await store.chunks.read(f"{request_id}.draft", 1, after=0)
    assert page.complete
    return "".join(chunk.delta for chunk in page.chunks)


def deltas(events: list[SentEvent]) -> list[Any]:
    return [event.data["delta"] for event in events if event.type == "output.delta"]


@pytest.mark.parametrize("parse", [with_httpx_sse, with_httpx2, with_our_client])
@pytest.mark.parametrize("live", [True, False])
async def test_every_parser_gets_exactly_the_text_that_is_stored(
    store: Store, server: Server, requests: RequestService, contexts: ContextManager, parse: Parse, live: bool
) -> None:
    request_id = await submit(store)
    (draft,) = await claim(contexts, "generation")
    reading = asyncio.create_task(parse(server.base_url, request_id)) if live else None
    for seq, delta in enumerate(HOSTILE, start=1):
        await contexts.store_chunk(
            Chunk(context_id=draft.id, attempt=1, seq=seq, delta=delta, at=contexts.now())
        )
    await end(contexts, draft, success(contexts, draft, chunks=len(HOSTILE)))
    async with asyncio.timeout(60):
        seen = await (reading or parse(server.base_url, request_id))
    assert deltas(seen) == HOSTILE
    assert [event.data["seq"] for event in seen if "seq" in event.data] == list(range(1, len(HOSTILE) + 1))
    assert "".join(deltas(seen)) == await stored_text(store, request_id)
    assert [event.data["type"] for event in seen] == [event.type for event in seen]
    assert [event.type for event in (seen[0], seen[-1])] == ["request.accepted", "request.completed"]


async def test_characters_that_the_base_service_cuts_in_two_arrive_whole(
    store: Store, server: Server
) -> None:
    text = "a \U0001f9ea\u2028 \u00e9\u0085 \U0001f468\u200d\U0001f469\u200d\U0001f467 z\n\n"
    said = f"data: {json.dumps({'delta': text}, ensure_ascii=False)}\n\n".encode()
    said += f"data: {json.dumps({'delta': '', 'output': {'text': text}}, ensure_ascii=False)}\n\n".encode()

    async def byte_by_byte(call: RecordedCall, reply: Reply) -> None:
        await reply.start(200, {"Content-Type": "text/event-stream"})
        for place in range(len(said)):
            await reply.send(said[place : place + 1])
        await reply.finish()

    async with BaseServiceStub() as stub:
        stub.behave(byte_by_byte)
        async with running(GenerativeWorker(store, base_url=stub.url)):
            request_id = await submit(store)
            async with asyncio.timeout(60):
                seen = await with_httpx_sse(server.base_url, request_id)
            view = await ended(store, request_id)
    assert "".join(deltas(seen)) == await stored_text(store, request_id) == text
    assert view.contexts[0].output == {"text": text}
