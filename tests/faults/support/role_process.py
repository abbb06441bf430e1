"""RoleProcess: one `agent-service worker …` or `agent-service api`, and what a scenario does to it."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent_service.local.child_process import ChildProcess
from tests.faults.support.faked_time import clock_offset as with_clock_offset
from tests.support.commands import ROOT
from tests.support.forked_process import ForkedProcess
from tests.support.waiting import until

#: How long a process may take to start or to stop on a busy machine, in seconds.
DEADLINE = 60.0
_LISTENS = re.compile(r"the API listens on (\S+):(\d+)")


class RoleProcess:
    """
    A running process of this project with an environment of its own, and its log as JSON lines.

    It works in its own empty folder, so that it finds no `.env`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        folder.mkdir(parents=True)
        self.role = command[0]
        self.name = folder.name
        self._log = folder / "output.log"
        self._child = _start(command, folder, self._log, environment, clock_offset)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a stopped one counts."""
        return self._child.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._child.exit_code

    @property
    def url(self) -> str:
        """The address of an API that is ready."""
        found = _LISTENS.search(self.output())
        assert found is not None, f"{self.name} does not listen yet"
        return f"http://{found[1]}:{found[2]}"

    def output(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def logs(self) -> list[dict[str, Any]]:
        """Its log lines; what is no JSON becomes a line with a `message` alone."""
        return [_parsed(line) for line in self.output().splitlines() if line]

    def errors(self) -> list[dict[str, Any]]:
        """What it logged with a traceback or as an error."""
        return [line for line in self.logs() if line.get("level") in ("ERROR", "CRITICAL", None)]

    async def ready(self) -> None:
        """Until it has said that it works; fails with its output if it ends before."""
        wanted = "the API listens on" if self.role == "api" else "worker started"

        def said() -> bool:
            output = self.output()
            assert self.is_running or wanted in output, f"{self.name} ended: {output[-4000:]}"
            return wanted in output

        await until(said, seconds=DEADLINE)

    async def ended(self, *, seconds: float = DEADLINE) -> int:
        """Its exit code as soon as it has ended by itself, or by a signal from elsewhere."""
        await until(lambda: not self.is_running, seconds=seconds)
        code = self.exit_code
        assert code is not None
        return code

    async def until_stopped(self) -> None:
        """Until it is stopped by SIGSTOP, for instance by its own fail point."""
        await until(lambda: _state_of(self.pid) == "T", seconds=DEADLINE)

    async def until_says(self, text: str, *, seconds: float = DEADLINE) -> None:
        """Until `text` stands in its output."""
        await until(lambda: text in self.output(), seconds=seconds)

    def kill(self) -> None:
        """kill -9, also of a stopped one."""
        self._child.kill()

    def terminate(self) -> None:
        """SIGTERM: stop gracefully; the second one ends it at once."""
        os.kill(self.pid, signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    async def log_lines_per_second(self, length: timedelta) -> float:
        """How much it logs, measured from now on for so long."""
        began, before = time.monotonic(), len(self.output().splitlines())
        deadline = began + length.total_seconds()
        await until(lambda: time.monotonic() >= deadline, seconds=length.total_seconds() + DEADLINE)
        return (len(self.output().splitlines()) - before) / (time.monotonic() - began)

    def resident_bytes(self) -> int:
        """Its resident memory."""
        return self._memory("VmRSS")

    def peak_resident_bytes(self) -> int:
        """The most resident memory that it ever had."""
        return self._memory("VmHWM")

    def open_files(self) -> int:
        """How many file descriptors it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def connections(self, port: int | None = None) -> int:
        """How many TCP connections it has: all, or those to a port of another process."""
        inodes = {_inode_of(entry) for entry in Path(f"/proc/{self.pid}/fd").iterdir()}
        found = 0
        for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            remote, state, inode = int(fields[2].split(":")[1], 16), fields[3], fields[9]
            found += state == "01" and inode in inodes and port in (None, remote)
        return found

    def _memory(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


def _start(
    command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str], clock_offset: timedelta
) -> ChildProcess | ForkedProcess:
    """Forked where it can be; another clock is a library that is loaded before a program begins."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    if not clock_offset:
        with log.open("wb") as output:
            return ForkedProcess(command, folder=folder, environment=variables, output=output)
    variables |= with_clock_offset(clock_offset)
    assigned = [f"{name}={value}" for name, value in variables.items()]
    cleared = ["/usr/bin/env", "-i", f"--chdir={folder}", *assigned]
    return ChildProcess([*cleared, sys.executable, "-m", "agent_service", *command], log=log)


def _inode_of(entry: Path) -> str:
    try:
        target = os.readlink(entry)
    except FileNotFoundError:
        return ""
    return target[8:-1] if target.startswith("socket:[") else ""


def _state_of(pid: int) -> str:
    """The letter of a process's state in /proc: R, S, D, T, Z."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"message": line}
    return found if isinstance(found, dict) else {"message": line}
