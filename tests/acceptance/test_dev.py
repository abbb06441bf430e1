"""`agent-service dev`, run for real, and the commands that speak to it."""

import json
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.commands import (
    RunningModule,
    processes_of,
    run_command,
    run_module,
    running_module,
    wait_until,
)

VALUES = {"API_PORT": "0"}
SUBMISSION = {
    "steps": [
        {
            "name": "count",
            "service": "analysis",
            "input": {"task": "text_statistics", "text": "One two three."},
        },
        {
            "name": "tell",
            "service": "communication",
            "input": {"channel": "log", "message": "{{ steps.count.output.words }} words"},
            "after": ["count"],
        },
    ]
}


def command(folder: Path, *arguments: str, text: str | None = None, code: int = 0) -> str:
    """The output of a command that ends with this exit code."""
    result = run_command(arguments, folder=folder, values=VALUES, text=text)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def check_commands(folder: Path) -> None:
    """Submit, wait, read, look: what a newcomer does while `dev` runs."""
    submission = json.dumps(SUBMISSION)
    ended: dict[str, Any] = json.loads(command(folder, "submit", "-", "--wait", text=submission))
    assert ended["status"] == "completed"
    outputs = {step["name"]: step["output"] for step in ended["steps"]}
    assert outputs["count"]["words"] == 3
    assert "3 words" in Path(outputs["tell"]["path"]).read_text()

    assert json.loads(command(folder, "requests", "get", ended["id"]))["id"] == ended["id"]
    lines = [json.loads(line) for line in command(folder, "requests", "events", ended["id"]).splitlines()]
    assert lines[0]["type"] == "request.accepted"
    assert lines[-1]["type"] == "request.completed"
    assert len({line["id"] for line in lines}) == len(lines)

    command(folder, "requests", "get", "01900000-0000-7000-8000-000000000000", code=3)
    wrong = {"service": "nonsense", "input": {}}
    (folder / "wrong.json").write_text(json.dumps(wrong))
    command(folder, "submit", "wrong.json", code=2)
    keyed = ("submit", "-", "--idempotency-key", "k1")
    assert (
        json.loads(command(folder, *keyed, text=submission))["id"]
        == (json.loads(command(folder, *keyed, text=submission))["id"])
    )
    command(folder, *keyed, text=json.dumps({**SUBMISSION, "priority": 1}), code=4)

    for role in ("api", "worker"):
        command(folder, "health", "--role", role)
    assert "problem" not in command(folder, "doctor")


def ask_under_another_name(api_url: str) -> None:
    """A page whose name was made to point here is refused, because there are no keys."""
    assert httpx2.get(f"{api_url}/healthz").status_code == 200
    assert httpx2.get(f"{api_url}/healthz", headers={"Host": "evil.example.com"}).status_code == 421


def start_again(folder: Path) -> None:
    """A second `dev` on the same data folder is refused while the first one runs."""
    result = run_module("agent_service", ["dev"], folder=folder, values=VALUES)
    assert result.returncode == 1
    assert "is in use by another agent_service" in result.stderr


def addresses(dev: RunningModule, folder: Path) -> Path:
    dev.wait_for("the API is at http://127.0.0.1:")
    return folder / ".agent-service" / "addresses.json"


@pytest.mark.timeout(300)
def test_dev_serves_the_commands_until_it_is_stopped_and_leaves_nothing_running(tmp_path: Path) -> None:
    with running_module("agent_service", ["dev"], folder=tmp_path, values=VALUES) as dev:
        published = addresses(dev, tmp_path)
        assert stat.S_IMODE(published.stat().st_mode) == 0o600
        found = json.loads(published.read_text())
        assert found["pid"] == dev.process.pid
        assert found["base_urls"].keys() == {"generation", "analysis", "communication"}
        check_commands(tmp_path)
        ask_under_another_name(found["api_url"])
        start_again(tmp_path)
        dev.process.send_signal(signal.SIGTERM)
        assert dev.end() == 0, "".join(dev.errors)
    assert "Traceback" not in "".join(dev.errors)
    assert not published.exists()
    assert processes_of(tmp_path) == []
    command(tmp_path, "requests", "get", "x", code=2)


@pytest.mark.timeout(120)
def test_a_killed_dev_takes_its_children_with_it_and_its_addresses_are_not_believed(tmp_path: Path) -> None:
    with running_module("agent_service", ["dev"], folder=tmp_path, values=VALUES) as dev:
        published = addresses(dev, tmp_path)
        dev.process.kill()
        dev.end()
    assert published.exists()
    wait_until(lambda: processes_of(tmp_path) == [], "the end of all children")
    command(tmp_path, "requests", "get", "x", code=2)


def test_dev_says_when_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run_module("agent_service", ["dev"], folder=tmp_path, values={"API_PORT": port})
    assert result.returncode == 2
    assert f"API_PORT {port}" in result.stderr
    assert "Traceback" not in result.stderr
