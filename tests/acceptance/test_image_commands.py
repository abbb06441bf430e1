"""
The commands of the image and of the compose file, run as plain processes with nothing but their environment.

Left out is only tini, which hands signals on.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.support.deployment_files import (
    ROOT,
    container_environment,
    exec_form,
    image_command,
    last_instruction,
    read_compose,
)

#: How long a process may take to be healthy, or to stop, in seconds; far beyond what it needs.
DEADLINE = 30.0

#: A worker needs the address of a base service; nothing is sent there while there is nothing to do.
NO_SERVICE = "http://127.0.0.1:9"


def resolve(words: list[str]) -> list[str]:
    """The command with the program beside this interpreter, or its module where that is not installed."""
    program = Path(sys.executable).with_name(words[0])
    if program.exists():
        return [str(program), *words[1:]]
    assert words[0] == "agent-service"
    return [sys.executable, "-m", "agent_service", *words[1:]]


def environment_with(values: dict[str, str]) -> dict[str, str]:
    """Only `values` and what a process needs to be found: no setting of this machine gets in."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **values}


def run(words: list[str], values: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in an empty folder, so that no `.env` is found."""
    return subprocess.run(
        resolve(words),
        env=environment_with(values),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@contextmanager
def started(words: list[str], values: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a running process, killed at the end if it still runs; its output joins the test's."""
    with subprocess.Popen(resolve(words), env=environment_with(values), cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_healthy(
    process: subprocess.Popen[bytes], check: list[str], values: dict[str, str], folder: Path
) -> None:
    """Repeat the health check, as Docker would, until it succeeds; each takes a moment to start."""
    deadline = monotonic() + DEADLINE
    while (result := run(check, values, folder)).returncode != 0:
        assert process.poll() is None, "the process has ended"
        assert monotonic() < deadline, result.stdout + result.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def healthcheck(container: str) -> list[str]:
    words: list[str] = read_compose()["services"][container]["healthcheck"]["test"]
    assert words[0] == "CMD"
    return words[1:]


def compose_command(container: str) -> list[str]:
    return [*image_command(), *read_compose()["services"][container]["command"]]


@pytest.mark.parametrize("container", ["api", "worker-generative"])
def test_without_a_mongodb_a_role_exits_2_and_names_the_variable(container: str, tmp_path: Path) -> None:
    result = run(compose_command(container), {"GENERATION_BASE_URL": NO_SERVICE}, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "MONGODB_URI" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_images_default_command_without_a_mongodb_exits_2_and_names_the_variable(tmp_path: Path) -> None:
    result = run([*image_command(), *exec_form(last_instruction("CMD"))], {}, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "MONGODB_URI" in result.stderr


def test_a_worker_without_a_base_service_exits_2_and_names_the_variable(tmp_path: Path) -> None:
    values = {"MONGODB_URI": "mongodb://127.0.0.1:9/?replicaSet=rs0"}
    result = run(compose_command("worker-generative"), values, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "GENERATION_BASE_URL" in result.stderr


@pytest.mark.parametrize("container", ["api", "worker-generative"])
def test_the_health_check_of_a_role_that_does_not_run_fails(container: str, tmp_path: Path) -> None:
    values = {
        "MONGODB_URI": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=500",
        "API_PORT": str(free_port()),
    }
    result = run(healthcheck(container), values, tmp_path)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "No module named" not in result.stderr


@pytest.mark.parametrize("container", ["api", "worker-generative", "worker-callback"])
def test_a_role_becomes_healthy_and_stops_cleanly_on_the_images_stop_signal(
    container: str, mongodb_uri: str, tmp_path: Path
) -> None:
    written = {name: value for name, value in container_environment(container).items() if value is not None}
    values = {
        **{name: value for name, value in written.items() if not name.endswith("_BASE_URL")},
        "GENERATION_BASE_URL": NO_SERVICE,
        "CALLBACK_ALLOWED_HOSTS": "hooks.example.org",
        "CALLBACK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DATABASE": f"image_{tmp_path.name}"[:63],
    }
    if container == "api":
        values |= {"API_HOST": "127.0.0.1", "API_PORT": str(free_port())}
    with started(compose_command(container), values, tmp_path) as process:
        wait_until_healthy(process, healthcheck(container), values, tmp_path)
        process.send_signal(signal.Signals[last_instruction("STOPSIGNAL")])
        assert process.wait(timeout=DEADLINE) == 0
