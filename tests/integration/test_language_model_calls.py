"""Calls of a real model behind a real llama.cpp server, by our own client and by a worker."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.base_services.client import BaseServiceClient
from agent_service.domain.errors import BaseServiceRejected
from agent_service.local.language_model import LanguageModel, start_language_model
from agent_service.store import Store
from tests.support.base_service_clients import each_kind, injected_client, make_call
from tests.support.generating import ask, events_of, first_delta, generating, step_of, text_of
from tests.support.stored_chunks import all_chunks
from tests.support.waiting import until

LIMIT = timedelta(seconds=90)
#: It goes on until the limit: the mark with which the model would end is taken from it.
ENDLESS = {"template": "Tell a very long story.", "max_tokens": 3500, "logit_bias": {"2": -100}}
#: Seconds of processor time, far less than an endless answer takes.
STOPPED_WITHIN = 5.0

pytestmark = pytest.mark.timeout(240)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LanguageModel]:
    folder: Path = tmp_path_factory.mktemp("model")
    running_model = await start_language_model(log=folder / "model.log", threads=2)
    yield running_model
    await running_model.stop()


@dataclass
class Caller:
    """A client of the model; `deltas` is what came through, and `began` rings with the first of it."""

    client: BaseServiceClient
    deltas: list[str] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, **step_input: Any) -> BaseServiceAnswer:
        return await self.client.call(make_call(input=step_input, timeout=LIMIT), self._keep)

    async def _keep(self, delta: str) -> None:
        self.deltas.append(delta)
        self.began.set()


@asynccontextmanager
async def calling(model: LanguageModel, kind: str = "own") -> AsyncIterator[Caller]:
    http_client = injected_client(kind)
    client = BaseServiceClient(
        base_url=model.base_url, protocol="openai", model=model.model, http_client=http_client
    )
    try:
        yield Caller(client)
    finally:
        await client.close()
        if http_client is not None:
            await http_client.aclose()


def processor_seconds(pid: int) -> float:
    """What the process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stops_computing(model: LanguageModel) -> float:
    """Wait until the model rests; the seconds that it computed until then."""
    began = processor_seconds(model.pid)

    async def rests() -> float | None:
        before = processor_seconds(model.pid)
        await asyncio.sleep(0.5)
        now = processor_seconds(model.pid)
        return now if now - before < 0.05 else None

    rested: float = await until(rests, seconds=120)
    return rested - began


def output_of(answer: BaseServiceAnswer) -> Any:
    return answer.output


@each_kind
async def test_a_streamed_text_is_the_sum_of_its_deltas(model: LanguageModel, kind: str) -> None:
    async with calling(model, kind) as caller:
        answer = await caller.call(template="What is the capital of France?", max_tokens=1000, temperature=0)
    output, usage = output_of(answer), answer.usage or {}
    assert "Paris" in output["text"]
    assert output["text"] == "".join(caller.deltas)
    assert len(caller.deltas) > 5
    assert (output["model"], output["finish_reason"]) == (model.model, "stop")
    counts = [usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")]
    assert all(isinstance(count, int) and count > 5 for count in counts)
    assert usage["total_tokens"] == sum(count for count in counts[:2] if isinstance(count, int))


@each_kind
async def test_calls_follow_each_other_without_losing_one(model: LanguageModel, kind: str) -> None:
    async with calling(model, kind) as caller:
        answers = [await caller.call(template="Count to ten.", max_tokens=2) for _ in range(8)]
    assert {output_of(answer)["finish_reason"] for answer in answers} == {"length"}
    assert [(answer.usage or {})["output_tokens"] for answer in answers] == [2] * 8


async def test_more_calls_than_the_model_has_slots_are_all_answered(model: LanguageModel) -> None:
    async with calling(model) as caller:
        answers = await asyncio.gather(*(caller.call(template="Hello!", max_tokens=8) for _ in range(4)))
    assert all(output_of(answer)["text"] for answer in answers)


async def test_a_parameter_goes_through_to_the_model(model: LanguageModel) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    async with calling(model) as caller:
        answer = await caller.call(template="Name a city.", response_format=wanted, max_tokens=100)
    assert json.loads(output_of(answer)["text"])["city"] in ("Rome", "Oslo")


async def test_a_prompt_that_is_too_long_is_refused_in_the_words_of_the_server(model: LanguageModel) -> None:
    async with calling(model) as caller:
        with pytest.raises(BaseServiceRejected, match=r"exceeds the available context size") as refused:
            await caller.call(template="word " * 6000)
        assert refused.value.code == "context_length_exceeded"
        with pytest.raises(BaseServiceRejected, match=r"rejected: .*400.*max_tokens"):
            await caller.call(template="Hello!", max_tokens="many")


@each_kind
async def test_a_cancelled_call_stops_the_model(model: LanguageModel, kind: str) -> None:
    async with calling(model, kind) as caller:
        call = asyncio.create_task(caller.call(**ENDLESS))
        await asyncio.wait_for(caller.began.wait(), LIMIT.total_seconds())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await stops_computing(model) < STOPPED_WITHIN


async def test_a_reader_of_the_events_sees_what_is_stored(store: Store, model: LanguageModel) -> None:
    async with generating(store, model.base_url, model.model) as (client, _):
        request_id = await ask(client, template="Name three colours.", max_tokens=40)
        text = text_of(await events_of(client, request_id))
        step = await step_of(client, request_id)
    assert text == step["output"]["text"] != ""
    stored = await all_chunks(store, f"{request_id}.generation", 1)
    assert "".join(chunk.delta for chunk in stored) == text


async def test_a_cancelled_request_stops_the_model(store: Store, model: LanguageModel) -> None:
    async with generating(store, model.base_url, model.model) as (client, _):
        request_id = await ask(client, **ENDLESS)
        await first_delta(client, request_id)
        await client.cancel(request_id)
        assert await stops_computing(model) < STOPPED_WITHIN
        assert (await step_of(client, request_id))["status"] == "cancelled"


async def test_a_worker_that_stops_stops_the_model_and_hands_its_work_back(
    store: Store, model: LanguageModel
) -> None:
    async with generating(store, model.base_url, model.model) as (client, worker):
        request_id = await ask(client, **ENDLESS)
        await first_delta(client, request_id)
        await worker.stop()
        assert await stops_computing(model) < STOPPED_WITHIN
        assert (await step_of(client, request_id))["status"] in ("pending", "scheduled")
