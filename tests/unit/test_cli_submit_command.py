"""`submit`, as it is typed, against an API that answers as a test says."""

import asyncio
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.support.commands import DEADLINE, running_module
from tests.support.scripted_api import frame, served, streaming
from tests.support.typed_commands import typed

SUBMISSION = {"service": "generation", "input": {"template": "Say hi."}}
EVENTS = [
    frame("request.accepted", "@0"),
    frame("step.running", "@0,a:1.0", step="a", attempt=1),
    frame("output.delta", "@0,a:1.1", step="a", attempt=1, delta="Hello"),
    frame("output.delta", "@0,a:1.2", step="a", attempt=1, delta=" there"),
    frame("step.completed", "@0,a:end", step="a", attempt=1),
    frame("request.completed", "@end,a:end"),
]


class Api:
    """Takes requests, which end as `status`."""

    def __init__(self) -> None:
        self.status = "completed"
        self.keys: list[str | None] = []
        self.authorizations: set[str | None] = set()
        self.read_along = threading.Event()
        self.endless = False

    def __call__(self, request: Request) -> Response:
        self.authorizations.add(request.headers.get("Authorization"))
        if request.method == "POST":
            self.keys.append(request.headers.get("Idempotency-Key"))
            return JSONResponse({"id": "r1", "status": "accepted"}, 202)
        if request.url.path.endswith("/events"):
            if self.endless:
                return StreamingResponse(self._endless(), media_type="text/event-stream")
            return streaming(*EVENTS)
        return JSONResponse({"id": "r1", "status": self.status})

    async def _endless(self) -> Any:
        yield EVENTS[0]
        self.read_along.set()
        while True:
            await asyncio.sleep(0.02)
            yield ": ping\n\n"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.chdir(tmp_path)
    Path("request.json").write_text(json.dumps(SUBMISSION))
    api = Api()
    with served(api) as address:
        monkeypatch.setenv("AGENT_SERVICE_URL", address)
        yield api


def test_a_submission_is_sent_with_the_keys_and_what_was_accepted_is_printed(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_SERVICE_API_KEY", "ask_live_1")
    assert typed("submit request.json --idempotency-key k", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "r1", "status": "accepted"}
    assert (api.keys, api.authorizations) == (["k"], {"Bearer ask_live_1"})


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
def test_waiting_prints_the_request_as_it_ended_and_the_exit_code_says_how(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    api.status = status
    assert typed("submit request.json --wait", monkeypatch) == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["status"] == status
    assert captured.err == "request r1 was accepted\n"


@pytest.mark.parametrize(("options", "terminal"), [("", False), ("--json", True)])
def test_for_programs_a_stream_is_lines_of_json(
    api: Api,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    terminal: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert typed(f"submit request.json --stream {options}", monkeypatch) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [
        "@0",
        "@0,a:1.0",
        "@0,a:1.1",
        "@0,a:1.2",
        "@0,a:end",
        "@end,a:end",
    ]
    assert lines[2]["delta"] == "Hello"


def test_for_people_a_stream_is_the_text_and_the_rest_is_talk(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert typed("submit request.json --stream", monkeypatch) == 0
    captured = capsys.readouterr()
    assert captured.out == "Hello there\n"
    assert captured.err.splitlines()[1:] == [
        "request accepted", "a running", "a completed", "request completed",
    ]  # fmt: skip


def test_an_interrupt_says_how_to_see_the_rest(api: Api, tmp_path: Path) -> None:
    api.endless = True
    values = {"AGENT_SERVICE_URL": os.environ["AGENT_SERVICE_URL"]}
    arguments = ["submit", "request.json", "--stream"]
    with running_module("agent_service", arguments, folder=tmp_path, values=values) as command:
        assert api.read_along.wait(DEADLINE)
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 130
    assert "agent-service requests events r1" in command.errors[-1]
    assert not [line for line in command.errors if "Traceback" in line]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No API, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENT_SERVICE_URL", raising=False)


@pytest.mark.parametrize(
    ("text", "what"), [("", "as JSON"), ("{", "as JSON"), ("[]", "a JSON object"), ("[" * 100_000, "as JSON")]
)
def test_what_is_no_submission_is_refused_before_anything_is_sent(
    nowhere: None, text: str, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert typed("submit -", monkeypatch) == 2
    assert what in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(
    nowhere: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("submit missing.json", monkeypatch) == 2
    assert "missing.json cannot be read: No such file" in capsys.readouterr().err
