import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from openapi_spec_validator import validate
from pydantic import SecretStr

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local import language_model
from agent_service.local.language_model import LanguageModel, find_weights, start_language_model

CONTRACT = Path(language_model.__file__).parent / "openapi" / "generation.json"


@pytest.fixture
async def model(tmp_path: Path) -> AsyncIterator[LanguageModel]:
    running = await start_language_model(log=tmp_path / "model.log", threads=2)
    yield running
    await running.stop()
    assert not running.is_running


def question(text: str, **options: object) -> dict[str, Any]:
    return {"model": "SmolLM2-135M-Instruct", "messages": [{"role": "user", "content": text}], **options}


def check(answer: object, schema: str) -> None:
    contract = json.loads(CONTRACT.read_text())
    jsonschema.validate(answer, {"$ref": f"#/components/schemas/{schema}", **contract})


async def stream(client: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> list[Any]:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", url, json=body | options) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def text_of(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def test_the_model_answers_as_its_contract_says(model: LanguageModel) -> None:
    validate(json.loads(CONTRACT.read_text()))
    url = f"{model.base_url}/chat/completions"
    # The server closes a connection after a stream, and a client that used it again could come too late.
    fresh = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=60, limits=fresh) as client:
        answers = await asyncio.gather(
            stream(client, url, question("What is the capital of France?", max_tokens=24, temperature=0)),
            stream(client, url, question("Name three colours.", max_tokens=24)),
        )
        whole = (await client.post(url, json=question("Count to ten.", max_tokens=5))).json()
        refused = await client.post(url, json={"messages": 5})
    for chunks in answers:
        for chunk in chunks:
            check(chunk, "CompletionChunk")
        assert text_of(chunks).strip()
        assert len(chunks) > 5, "the answer came in one piece"
    assert "Paris" in text_of(answers[0])
    assert answers[0][-1]["usage"]["completion_tokens"] > 0
    check(whole, "Completion")
    assert whole["model"] == model.model == "SmolLM2-135M-Instruct"
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 5
    assert refused.status_code == 400
    check(refused.json(), "Error")


async def test_with_a_key_it_answers_nobody_else(tmp_path: Path) -> None:
    running = await start_language_model(
        log=tmp_path / "model.log", threads=2, api_key=SecretStr("key-of-it")
    )
    url, body = f"{running.base_url}/chat/completions", question("Count to ten.", max_tokens=2)
    async with httpx2.AsyncClient(timeout=60) as client:
        nobody = await client.post(url, json=body)
        other = await client.post(url, json=body, headers={"Authorization": "Bearer key"})
        known = await client.post(url, json=body, headers={"Authorization": "Bearer key-of-it"})
    await running.stop()
    assert [nobody.status_code, other.status_code, known.status_code] == [401, 401, 200]
    assert "key-of-it" not in (tmp_path / "model.log").read_text()


async def test_a_taken_port_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LocalPartUnavailable, match="GENERATION_BASE_URL"):
            await start_language_model(log=tmp_path / "model.log", port=taken.getsockname()[1])


@pytest.mark.parametrize("missing", ["_SERVER_PACKAGE", "_WEIGHTS_PACKAGE"])
def test_a_part_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(language_model, missing, "no_such_package")
    with pytest.raises(LocalPartUnavailable, match=r"no.such.package.*GENERATION_BASE_URL"):
        find_weights()
