"""The demo, run for real: MongoDB, a language model, an analysis and an outbox."""

import email
import email.policy
import json
import re
import signal
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.local.mongod import start_mongod
from agent_service.local.text_statistics import describe_text
from tests.support.commands import processes_of, run_module, running_module, wait_until


def run_demo(folder: Path) -> tuple[dict[str, Any], str]:
    """The last line of a demo and all of its output."""
    values = {"MONGODB_URI": "mongodb://127.0.0.1:9/", "GENERATION_BASE_URL": "http://127.0.0.1:9"}
    result = run_module("agent_service.demo", folder=folder, values=values)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    last: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return last, result.stdout


async def read_contexts(folder: Path) -> dict[str, dict[str, Any]]:
    """The contexts that the demo left in its data folder, by id."""
    server = await start_mongod(folder / ".agent-service" / "demo" / "mongodb")
    try:
        async with AsyncMongoClient[dict[str, Any]](server.uri) as client:
            return {found["_id"]: found async for found in client["agent_service"]["contexts"].find()}
    finally:
        await server.stop()


def read_message(path: str) -> EmailMessage:
    return email.message_from_bytes(Path(path).read_bytes(), policy=email.policy.default)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("runs", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
async def test_the_demo_writes_a_text_measures_it_and_mails_it_and_keeps_the_data_for_the_next_run(
    tmp_path: Path, runs: int
) -> None:
    first, output = run_demo(tmp_path)
    assert first.keys() == {"request_id", "status", "model", "message_path", "seconds"}
    assert first["status"] == "completed"
    assert "SmolLM2" in first["model"]
    assert "does not use MONGODB_URI, GENERATION_BASE_URL" in output
    for line in ("draft +running", "draft +completed", "check +completed", "notify +completed"):
        assert re.search(rf"[\d.]+ s +{line}", output), line
    assert processes_of(tmp_path) == []

    later = [run_demo(tmp_path)[0] for _ in range(runs - 1)]
    assert len({result["request_id"] for result in (first, *later)}) == runs
    assert processes_of(tmp_path) == []

    contexts = await read_contexts(tmp_path)
    for result in (first, *later):
        draft = contexts[f"{result['request_id']}.draft"]
        text = draft["output"]["text"]
        assert text.strip() in output or result is not first
        statistics = contexts[f"{result['request_id']}.check"]["output"]
        expected = describe_text(text, terms=10)
        assert statistics["words"] == expected.words
        assert statistics["characters"] == len(text)
        message = read_message(result["message_path"])
        assert str(message["To"]) == "a@example.org"
        assert message.get_content().split() == text.split()


@pytest.mark.timeout(120)
def test_a_demo_that_cannot_start_says_why_and_what_to_do(tmp_path: Path) -> None:
    result = run_module("agent_service.demo", folder=tmp_path, values={"MONGOD_BINARY": "/nowhere/mongod"})
    assert result.returncode == 1
    assert "MONGOD_BINARY is /nowhere/mongod" in result.stderr
    assert "Traceback" not in result.stderr
    assert processes_of(tmp_path) == []


@pytest.mark.timeout(120)
def test_an_interrupted_demo_stops_what_it_started(tmp_path: Path) -> None:
    log = tmp_path / ".agent-service" / "demo" / "demo.log"
    with running_module("agent_service.demo", folder=tmp_path) as demo:
        wait_until(
            lambda: log.exists() and "the embedded MongoDB runs" in log.read_text(), "a running mongod"
        )
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == 130
        assert "Traceback" not in "".join(demo.errors)
    assert processes_of(tmp_path) == []
