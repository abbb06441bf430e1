"""Against an OpenAI-compatible server that others wrote: what it says is what comes out at the other end."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_service.base_services.client import BaseServiceClient
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable
from agent_service.store import Store
from tests.support.base_service_clients import each_kind, injected_client, make_call
from tests.support.generating import ask, events_of, first_delta, generating, step_of, text_of
from tests.support.mock_model import mock_model
from tests.support.mock_model_process import LONG_TEXT, TEXT, TOOL_ARGUMENTS

LIMIT = timedelta(seconds=60)


@pytest.fixture
async def base_url(tmp_path: Path) -> AsyncIterator[str]:
    async with mock_model(tmp_path) as url:
        yield url


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
    async with generating(store, base_url, "mock") as (client, _):
        request_id = await ask(client, template="Please tell me.")
        events = await events_of(client, request_id)
        step = await step_of(client, request_id)
    assert step["output"] == {"text": TEXT, "model": "mock", "finish_reason": "stop"}
    assert text_of(events) == TEXT
    assert step["usage"] == {
        "input_tokens": 12,
        "output_tokens": 34,
        "total_tokens": 46,
        "cached_input_tokens": 0,
        "reasoning_tokens": 0,
    }
    assert events[-1].type == "request.completed"


async def test_tool_calls_arrive_as_the_model_made_them(store: Store, base_url: str) -> None:
    async with generating(store, base_url, "mock") as (client, _):
        step: dict[str, Any] = {}
        for stream in (True, False):
            request_id = await ask(client, template="Please use tools.", stream=stream)
            await events_of(client, request_id)
            step[str(stream)] = (await step_of(client, request_id))["output"]
    assert step["True"] == step["False"]
    assert step["True"]["finish_reason"] == "tool_calls"
    assert [(call["id"], call["function"]) for call in step["True"]["tool_calls"]] == [
        ("call_1", {"name": "weather", "arguments": json.dumps(TOOL_ARGUMENTS)}),
        ("call_2", {"name": "now", "arguments": "{}"}),
    ]


async def test_a_busy_server_is_asked_again_and_a_refusal_ends_at_once(store: Store, base_url: str) -> None:
    async with generating(store, base_url, "mock") as (client, _):
        busy, long, keyless = [
            await ask(client, template=template) for template in ("busy once", "too long", "wrong key")
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
    async with generating(store, base_url, "mock") as (client, _):
        request_id = await ask(client, template="Please go on.")
        await first_delta(client, request_id)
        await client.cancel(request_id)
        events = await events_of(client, request_id)
        step = await step_of(client, request_id)
    assert (events[-1].type, step["status"]) == ("request.cancelled", "cancelled")
    text = text_of(events)
    assert text
    assert LONG_TEXT.startswith(text)
    assert len(text) < len(LONG_TEXT)
