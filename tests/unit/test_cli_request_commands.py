"""The commands about requests, against an API that answers as a test says."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.scripted_api import frame, served, streaming
from tests.support.typed_commands import typed


class Api:
    """Answers every call with one problem or document, streams one event, and remembers what was called."""

    status = 200
    body: object = {}

    def __init__(self) -> None:
        self.called: list[str] = []
        self.cursors: list[str | None] = []

    def answer(self, status: int, body: object) -> None:
        self.status, self.body = status, body

    def __call__(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        self.called.append(f"{request.method} {request.url.path}{query}")
        if request.url.path.endswith("/events"):
            self.cursors.append(request.headers.get("Last-Event-ID"))
            return streaming(frame("request.completed", "@end"))
        return JSONResponse(self.body, self.status)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.chdir(tmp_path)
    api = Api()
    with served(api) as address:
        monkeypatch.setenv("AGENT_SERVICE_URL", address)
        yield api


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("get", "GET /v1/requests/r1"),
        ("cancel", "POST /v1/requests/r1/cancel"),
        ("retry", "POST /v1/requests/r1/retry"),
    ],
)
def test_a_command_prints_how_the_request_stands(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, call: str
) -> None:
    api.answer(202, {"id": "r1", "status": "running", "mood": "good"})
    assert typed(f"requests {command} r1", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "r1", "status": "running", "mood": "good"}
    assert api.called == [call]


REFUSALS = [
    (409, "request_already_ended", 4),
    (409, "request_not_ended", 4),
    (404, "request_not_found", 3),
    (422, "invalid_submission", 2),
    (403, "forbidden", 1),
    (500, "internal_error", 75),
]


@pytest.mark.parametrize("command", ["cancel", "retry", "get", "events"])
def test_what_cannot_be_done_is_told_on_stderr_and_by_the_exit_code(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for status, code, exit_code in REFUSALS:
        api.answer(status, {"code": code, "detail": "the request has ended: it is completed"})
        assert typed(f"requests {command} r1", monkeypatch) == exit_code, code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("agent-service: ")


def test_cancel_needs_the_id_of_a_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("requests cancel", monkeypatch) == 2
    assert capsys.readouterr().out == ""


def test_events_go_on_after_the_one_that_is_named(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("requests events r1 --after @0,a:1.1", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "@end", "type": "request.completed"}
    assert api.cursors == ["@0,a:1.1"]


def test_a_list_is_asked_for_with_its_filters(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answer(200, {"requests": [{"id": "r1", "mood": "good"}, {"id": "r2"}], "next": "more"})
    options = "--status failed --service analysis --metadata team=blue --metadata a=b --limit 2"
    times = "--created-after 2026-01-31T12:00 --created-before 2026-02-01T12:00Z"
    assert typed(f"requests list {options} {times}", monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"id": "r1", "mood": "good"}, {"id": "r2"}]
    (called,) = api.called
    asked = dict(part.split("=", 1) for part in called.partition("?")[2].split("&"))
    assert asked == {
        "status": "failed",
        "service": "analysis",
        "metadata.team": "blue",
        "metadata.a": "b",
        "created_after": "2026-01-31T12%3A00%3A00Z",
        "created_before": "2026-02-01T12%3A00%3A00Z",
        "limit": "2",
    }


def test_a_list_is_a_table_on_a_terminal_unless_json_is_asked_for(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    api.answer(200, {"requests": [{"id": "r1", "status": "failed"}], "next": None})
    assert typed("requests list", monkeypatch) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert (head.split()[:2], row.split()) == (["ID", "STATUS"], ["r1", "failed"])
    assert typed("requests list --json", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "r1"


@pytest.mark.parametrize("options", ["--limit 0", "--metadata team", "--created-after soon", "--limit many"])
def test_a_filter_that_cannot_be_right_has_the_exit_code_2(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    assert typed(f"requests list {options}", monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert options.split()[0].strip("-").replace("-", "_") in captured.err.replace("-", "_")
    assert api.called == []
