"""Commands of this project as processes of their own, with nothing but the environment that a test gives."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from time import monotonic, sleep

from tests.support.forked_process import ForkedProcess

ROOT = Path(__file__).resolve().parents[2]
#: Far beyond what anything here needs, in seconds.
DEADLINE = 60.0
#: Children inherit it, so that what a process leaves behind can be told from everything else on the machine.
_MARK = "AGENT_SERVICE_TEST_RUN"


def environment(folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    """What a process in `folder` gets to see of this machine, marked with the folder."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), _MARK: str(folder), **values}


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Let SIGINT interrupt this process, and those that it starts meanwhile.

    A shell makes what a script runs in the background ignore it, and whatever that starts inherits it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_module(
    module: str,
    arguments: Sequence[str] = (),
    *,
    folder: Path,
    values: Mapping[str, str] | None = None,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` in a folder to its end; `text` is its standard input."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(folder, values or {}),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )


def run_command(
    arguments: Sequence[str],
    *,
    folder: Path,
    values: Mapping[str, str] | None = None,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `agent-service …` in a folder to its end; it is forked, which costs a tenth of `run_module`."""
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write((text or "").encode())
        given.seek(0)
        process = ForkedProcess(
            arguments,
            folder=folder,
            environment=environment(folder, values or {}),
            output=output,
            errors=errors,
            given=given,
        )
        try:
            code = process.wait(2 * DEADLINE)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        said, told = output.read().decode(), errors.read().decode()
    return subprocess.CompletedProcess(["agent-service", *arguments], code, said, told)


class RunningModule:
    """A process that runs, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.errors: list[str] = []
        assert process.stderr is not None
        self._reader = Thread(target=self.errors.extend, args=(process.stderr,), daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> str:
        """The first line on stderr that holds `text`."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [line for line in self.errors if text in line]
            assert found or self.process.poll() is None, "".join(self.errors)
            return bool(found)

        wait_until(look, f"{text!r} in {self.errors}")
        return found[0]

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code


@contextmanager
def running_module(
    module: str, arguments: Sequence[str] = (), *, folder: Path, values: Mapping[str, str] | None = None
) -> Iterator[RunningModule]:
    """`python -m module` in a folder while the block runs; killed at the end if it still does."""
    with interruptible():
        started = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment(folder, values or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    with started as process:
        try:
            yield RunningModule(process)
        finally:
            process.kill()


def processes_of(folder: Path) -> list[int]:
    """The processes that were started in `folder` by the functions here, and their children."""
    mark = f"{_MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if mark in variables:
                found.append(int(entry.name))
    return found


def wait_until(condition: object, what: str) -> None:
    """Look again and again until `condition()` holds; fails with `what` after the deadline."""
    assert callable(condition)
    deadline = monotonic() + DEADLINE
    while not condition():
        assert monotonic() < deadline, f"waited in vain for: {what}"
        sleep(0.02)
