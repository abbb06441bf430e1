"""Processes of this project whose whole output is kept, and whose environment is full of secrets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Self

from tests.support.commands import DEADLINE, environment, wait_until
from tests.support.forked_process import ForkedProcess


class CanaryProcesses:
    """Starts processes and runs commands in one folder; at the end all have stopped."""

    def __init__(self, folder: Path, values: Mapping[str, str]) -> None:
        self._folder = folder
        self._values = dict(values)
        self._running: list[subprocess.Popen[bytes]] = []
        self._logs: list[Path] = []
        self._numbers = count()
        self._arguments: list[str] = []

    def start(self, module: str, *arguments: str, until: str) -> str:
        """Start `python -m module`, and return its output as soon as it holds `until`; for any thread."""
        log = self._new_log()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self._folder,
                env=environment(self._folder, self._values),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)

        def works() -> bool:
            assert process.poll() is None, log.read_text()
            return until in log.read_text()

        wait_until(works, f"{until!r} of {module} {' '.join(arguments)}")
        self._arguments.append(Path(f"/proc/{process.pid}/cmdline").read_text())
        return log.read_text()

    def run(self, *arguments: str, **values: str) -> int:
        """Run a command of agent_service to its end; its exit code."""
        with self._new_log().open("wb") as output:
            process = ForkedProcess(
                arguments,
                folder=self._folder,
                environment=environment(self._folder, {**self._values, **values}),
                output=output,
            )
            try:
                return process.wait(2 * DEADLINE)
            finally:
                process.kill()

    @property
    def output(self) -> str:
        """All that was written so far, by whatever was started."""
        return "".join(log.read_text() for log in self._logs)

    @property
    def arguments(self) -> str:
        """The arguments of everything that was started."""
        return "".join(self._arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DEADLINE
        for process in self._running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _new_log(self) -> Path:
        log = self._folder / f"output-{next(self._numbers)}-{os.getpid()}.log"
        self._logs.append(log)
        return log
