"""The commands about requests, against an API in this process."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent_service.cli import main


class Api(ThreadingHTTPServer):
    """Answers every call with one problem or document, and remembers what was called."""

    status = 200
    body: object = {}

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.called: list[str] = []

    def answer(self, status: int, body: object) -> None:
        self.status, self.body = status, body


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        self.server.called.append(f"{self.command} {self.path}")
        content = json.dumps(self.server.body).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The calls are remembered, not printed."""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.chdir(tmp_path)
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AGENT_SERVICE_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def typed(arguments: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["agent-service", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_cancel_prints_how_the_request_stands(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answer(202, {"id": "r1", "status": "running"})
    assert typed("requests cancel r1", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "r1", "status": "running"}
    assert api.called == ["POST /v1/requests/r1/cancel"]


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [(409, "request_already_ended", 4), (404, "request_not_found", 3)]
)
def test_a_request_that_cannot_be_cancelled_is_told_on_stderr_and_by_the_exit_code(
    api: Api,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    exit_code: int,
) -> None:
    api.answer(status, {"code": code, "detail": "the request has ended: it is completed"})
    assert typed("requests cancel r1", monkeypatch) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("agent-service: ")


def test_cancel_needs_the_id_of_a_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("requests cancel", monkeypatch) == 2
    assert capsys.readouterr().out == ""
