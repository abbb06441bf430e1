"""The receiver in docs/callbacks.md takes what we send and nothing else; what is sent looks as it shows."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from agent_service.local.servers import serve
from agent_service.store import Store
from tests.support.callbacks import SECRET, a_callback_worker, at, delivered, requests_with_callbacks
from tests.support.worker_tools import HandlerWorker, Raw, echo, running

pytestmark = pytest.mark.harness

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")


def example(language: str, beginning: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    [found] = [block for block in blocks if block.startswith(beginning)]
    return str(found)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the example defines."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(example("python", "import os"), names)
    return names


async def test_the_receiver_takes_our_callback_and_it_looks_as_is_shown(
    store: Store, raw: Raw, receiver: dict[str, Any]
) -> None:
    shown = json.loads(example("json", '{"type"'))
    app: FastAPI = receiver["app"]
    async with serve(app, host="127.0.0.1", port=0) as server:
        url = at(server.port)["url"].replace("/ended", "/agent-service")
        requests = requests_with_callbacks(store)
        async with running(a_callback_worker(store), HandlerWorker(store, echo)):
            body = {"service": "generation", "input": 1, "callback": {"url": url}}
            request_id = (await requests.submit(body)).request.id

            await delivered(raw, request_id)
    [data] = receiver["told"].values()
    assert data == {**shown["data"], "request_id": request_id}
    assert shown["type"] == f"request.{shown['data']['status']}"


async def test_the_receiver_refuses_what_we_did_not_sign(receiver: dict[str, Any]) -> None:
    transport = httpx2.ASGITransport(app=receiver["app"])
    async with httpx2.AsyncClient(transport=transport, base_url="http://hooks.example.org") as client:
        headers = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
        for given in ({}, headers):
            answer = await client.post("/agent-service", json={}, headers=given)
            assert answer.status_code == 400
    assert receiver["told"] == {}
