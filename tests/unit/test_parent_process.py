"""A process that notices when the one that supervises it stops or has gone."""

import subprocess
import sys
from pathlib import Path

from tests.support.commands import ROOT, wait_until

WATCHING = """
import sys, time
from datetime import timedelta
from agent_service.processes import parent_process
parent_process._LAST_WRITES = timedelta(0)
parent = parent_process.ParentProcess(grace=timedelta(seconds=0.2))
parent.watch(lambda: print("stop", flush=True))
print("watching", repr(sys.stdin.read()), flush=True)
time.sleep(600)
"""


def test_a_process_is_told_to_stop_when_its_parent_has_gone_and_is_ended_where_it_does_not() -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WATCHING]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # What reads its standard input meets its end, and not a pipe in which nothing ever comes.
        assert process.stdout.readline() == "watching ''\n"
        process.stdin.close()
        assert process.stdout.readline() == "stop\n"
        assert process.wait(30) == 1
        assert "did not stop within 0.2 s" in process.stderr.read()


BEREFT = """
import os, stat, sys, threading, time
from datetime import timedelta
from agent_service.processes.parent_process import ParentProcess
told = threading.Event()
ParentProcess(grace=timedelta(minutes=1)).watch(told.set)
print("watching", flush=True)
told.wait()
while not all(stat.S_ISCHR(os.fstat(output).st_mode) for output in (1, 2)):
    time.sleep(0.01)
print("nobody reads this", flush=True)
open(sys.argv[1], "w").close()
os._exit(0)
"""
PARENT = """
import subprocess, sys
pipe = subprocess.PIPE
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], stdin=pipe, stdout=pipe, stderr=pipe)
child.stdout.readline()
print("ready", flush=True)
child.wait()
"""


def test_what_a_process_prints_after_its_parent_was_killed_goes_nowhere(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, BEREFT, str(tmp_path / "printed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    wait_until((tmp_path / "printed").exists, "what was printed without an error")
