"""A forked command is a process like one that is started: its own environment, folder, files, ids and end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT, run_command, run_module
from tests.support.forked_process import ForkedProcess
from tests.support.waiting import until

pytestmark = pytest.mark.harness

VALUES = {"MONGODB_URI": "mongodb://127.0.0.1:9/", "GENERATION_BASE_URL": "http://127.0.0.1:9"}
PROGRAM = f"""
import os, sys
from pathlib import Path
from tests.support.forked_process import ForkedProcess
folder = Path(sys.argv[1])
with (folder / "log").open("wb") as log:
    process = ForkedProcess(["worker", "generation"], folder=folder, environment={VALUES}, output=log)
print(process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_forked_command_says_and_returns_what_a_started_one_does(tmp_path: Path) -> None:
    values = {"MONGODB_DATABASE": "one", "LOG_LEVEL": "DEBUG"}
    (tmp_path / ".env").write_text("MONGODB_URI=mongodb://from.a.file:1/")
    for words in (("config", "show"), ("nonsense",), ("worker", "generation"), ("submit", "-")):
        forked = run_command(words, folder=tmp_path, values=values, text="no JSON")
        started = run_module("agent_service", words, folder=tmp_path, values=values, text="no JSON")
        assert forked.returncode == started.returncode, words
        assert forked.stdout == started.stdout
        assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]
    assert "from.a.file" in run_command(["config", "show"], folder=tmp_path, values=values).stdout
    assert "from.a.file" not in run_command(["config", "show"], folder=tmp_path.parent, values=values).stdout


def test_a_forked_process_has_nothing_of_the_others_and_can_be_killed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        ours = [
            ForkedProcess(("worker", "generation"), folder=tmp_path, environment=VALUES, output=log)
            for _ in range(2)
        ]
    try:
        for process in ours:
            assert process.exit_code is None
            assert os.getsid(process.pid) == process.pid != os.getsid(0)
            assert Path(f"/proc/{process.pid}/cwd").resolve() == tmp_path
    finally:
        for process in ours:
            process.kill()
    assert {process.exit_code for process in ours} == {-signal.SIGKILL}


def killed_test(folder: Path) -> subprocess.CompletedProcess[str]:
    """A process with a fork server of its own, which forks a worker, says its id and is killed."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_what_was_forked_does_not_outlive_the_process_of_the_test(tmp_path: Path) -> None:
    killed = killed_test(tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    worker = Path(f"/proc/{int(killed.stdout)}")
    await until(lambda: not worker.exists())
