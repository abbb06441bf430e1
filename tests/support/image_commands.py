"""What Dockerfile and docker-compose.yml run, as plain processes of this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from agent_service.local.free_port import free_port
from tests.support.deployment_files import ROOT, container_environment, image_command, read_compose

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


def run(
    words: list[str], values: dict[str, str], folder: Path, *, behind: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in an empty folder, so that no `.env` is found; `behind` another program."""
    return subprocess.run(
        [*behind, *resolve(words)],
        env=environment_with(values),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@contextmanager
def started(
    words: list[str], values: dict[str, str], folder: Path, *, behind: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a running process, killed at the end if it still runs; its output joins the test's."""
    with subprocess.Popen([*behind, *resolve(words)], env=environment_with(values), cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_healthy(
    process: subprocess.Popen[bytes],
    check: list[str],
    values: dict[str, str],
    folder: Path,
    *,
    behind: Sequence[str] = (),
) -> None:
    """Repeat the health check, as Docker would, until it succeeds; each takes a moment to start."""
    deadline = monotonic() + DEADLINE
    while (result := run(check, values, folder, behind=behind)).returncode != 0:
        assert process.poll() is None, "the process has ended"
        assert monotonic() < deadline, result.stdout + result.stderr


def healthcheck(container: str) -> list[str]:
    """What Docker runs to see whether a container is healthy."""
    words: list[str] = read_compose()["services"][container]["healthcheck"]["test"]
    assert words[0] == "CMD"
    return words[1:]


def compose_command(container: str) -> list[str]:
    """What a container runs."""
    return [*image_command(), *read_compose()["services"][container]["command"]]


def first_command() -> list[str]:
    """What the compose file says is to be run first; it ends with the file of API keys."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    [command] = re.findall(r"^#   (agent-service keys create .*)$", text, flags=re.MULTILINE)
    return str(command).split()


def values_of(container: str, mongodb_uri: str, *, database: str, folder: Path) -> dict[str, str]:
    """
    The environment that the compose file gives a container, with the addresses of this machine.

    The API keys that the first command makes are put into `folder`.
    """
    written = {name: value for name, value in container_environment(container).items() if value is not None}
    values = {
        **{name: value for name, value in written.items() if not name.endswith("_BASE_URL")},
        "GENERATION_BASE_URL": NO_SERVICE,
        "CALLBACK_ALLOWED_HOSTS": "hooks.example.org",
        "CALLBACK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DATABASE": database,
    }
    if container == "api":
        keys = folder / "keys" / "api_keys.jsonl"
        values |= {"API_HOST": "127.0.0.1", "API_PORT": str(free_port()), "API_KEYS_FILE": str(keys)}
        made = run([*first_command()[:-1], str(keys)], {}, folder)
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("ask_live_")
    return values
