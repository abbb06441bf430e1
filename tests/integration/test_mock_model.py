"""Against an OpenAI-compatible server that others wrote: what it says is what comes out at the other end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_service.base_services.client import BaseServiceClient
from agent_service.client import AgentClient, StreamEvent
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable
from agent_service.local.servers import serve
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.api import make_app
from tests.support.base_service_clients import each_kind, injected_client, make_call
from tests.support.mock_model import mock_model
from tests.support.mock_model_process import LONG_TEXT, TEXT, TOOL_ARGUMENTS
from tests.support.worker_tools import AT_ONCE, running

LIMIT = timedelta(seconds=60)


@pytest.fixture
async def base_url(tmp_path: Path) -> AsyncIterator[str]:
    async with mock_model(tmp_path) as url:
        yield url


@asynccontextmanager
async def agents(store: Store, base_url: str) -> AsyncIterator[AgentClient]:
    """A client of an API whose worker calls the server."""
    worker = GenerativeWorker(
        store, base_url=base_url, protocol="openai", model="mock", backoff=AT_ONCE, shutdown_grace=0
    )
    async with serve(make_app(store)) as server, running(worker), AgentClient(server.base_url) as client:
        yield client


async def ask(client: AgentClient, template: str, **others: Any) -> str:
    answer = await client.submit({"service": "generation", "input": {"template": template, **others}})
    return str(answer["id"])


async def events_of(client: AgentClient, request_id: str) -> list[StreamEvent]:
    async with asyncio.timeout(LIMIT.total_seconds()):
        return [event async for event in client.events(request_id)]


async def step_of(client: AgentClient, request_id: str) -> dict[str, Any]:
    answer: Any = await client.get(request_id)
    (step,) = answer["steps"]
    return dict(step)


@each_kind
async def test_every_kind_of_client_gets_the_same_streamed_or_not(kind: str, base_url: str) -> None:
    deltas: list[str] = []

    async def keep(delta: str) -> None:
        deltas.append(delta)

    http_client = injected_client(kind)
    client = BaseServiceClient(base_url=base_url, protocol="openai", model="mock", http_client=http_client)
    try:
        for template in ("Please tell me.", "Please use tools."):
            whole, streamed = [
                await client.call(
                    make_call(input={"template": template, "stream": stream}, timeout=LIMIT), keep
                )
                for stream in (False, True)
            ]
            assert streamed == whole
            output: Any = streamed.output
            assert "".join(deltas) == output["text"]
            assert len(deltas) > 1
            deltas.clear()
        for template, code in (("too long", "context_length_exceeded"), ("wrong key", "unauthorized")):
            with pytest.raises(BaseServiceRejected) as refused:
                await client.call(make_call(input={"template": template}, timeout=LIMIT), keep)
            assert refused.value.code == code
        with pytest.raises(BaseServiceUnavailable, match=r"rate_limited.*Rate limit reached"):
            await client.call(make_call(input={"template": "busy once"}, timeout=LIMIT), keep)
    finally:
        await client.close()
        if http_client is not None:
            await http_client.aclose()


async def test_the_deltas_of_a_request_make_up_its_stored_output(store: Store, base_url: str) -> None:
    async with agents(store, base_url) as client:
        request_id = await ask(client, "Please tell me.")
        events = await events_of(client, request_id)
        step = await step_of(client, request_id)
    deltas = [str(event.data["delta"]) for event in events if event.type == "output.delta"]
    assert step["output"] == {"text": TEXT, "model": "mock", "finish_reason": "stop"}
    assert "".join(deltas) == TEXT
    assert step["usage"] == {
        "input_tokens": 12,
        "output_tokens": 34,
        "total_tokens": 46,
        "cached_input_tokens": 0,
        "reasoning_tokens": 0,
    }
    assert events[-1].type == "request.completed"


async def test_tool_calls_arrive_as_the_model_made_them(store: Store, base_url: str) -> None:
    async with agents(store, base_url) as client:
        step: dict[str, Any] = {}
        for stream in (True, False):
            request_id = await ask(client, "Please use tools.", stream=stream)
            await events_of(client, request_id)
            step[str(stream)] = (await step_of(client, request_id))["output"]
    assert step["True"] == step["False"]
    assert step["True"]["finish_reason"] == "tool_calls"
    assert [(call["id"], call["function"]) for call in step["True"]["tool_calls"]] == [
        ("call_1", {"name": "weather", "arguments": json.dumps(TOOL_ARGUMENTS)}),
        ("call_2", {"name": "now", "arguments": "{}"}),
    ]


async def test_a_busy_server_is_asked_again_and_a_refusal_ends_at_once(store: Store, base_url: str) -> None:
    async with agents(store, base_url) as client:
        busy, long, keyless = [
            await ask(client, template) for template in ("busy once", "too long", "wrong key")
        ]
        await asyncio.gather(*(events_of(client, request_id) for request_id in (busy, long, keyless)))
        steps = [await step_of(client, request_id) for request_id in (busy, long, keyless)]
    assert [(step["status"], step["attempt"]) for step in steps] == [
        ("completed", 2),
        ("failed", 1),
        ("failed", 1),
    ]
    assert steps[0]["output"]["text"] == "Now I have time."
    assert [step["error"]["code"] for step in steps[1:]] == ["context_length_exceeded", "unauthorized"]
    assert steps[1]["error"]["message"] == "the base service answered 400: the context length is exceeded"


async def test_a_cancelled_request_is_read_no_further(store: Store, base_url: str) -> None:
    async with agents(store, base_url) as client:
        request_id = await ask(client, "Please go on.")
        seen: list[StreamEvent] = []
        told = False
        async with asyncio.timeout(LIMIT.total_seconds()):
            async for event in client.events(request_id):
                seen.append(event)
                if event.type == "output.delta" and not told:
                    told = True
                    await client.cancel(request_id)
        step = await step_of(client, request_id)
    assert (seen[-1].type, step["status"]) == ("request.cancelled", "cancelled")
    text = "".join(str(event.data["delta"]) for event in seen if event.type == "output.delta")
    assert LONG_TEXT.startswith(text)
    assert len(text) < len(LONG_TEXT)
