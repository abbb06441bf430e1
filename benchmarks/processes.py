"""Processes: each part that is measured runs in one of its own, as it would in production."""

import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from agent_service.local.child_process import ChildProcess, start_child

_START_LIMIT = timedelta(seconds=60)
_STOP_GRACE = timedelta(seconds=15)
#: In seconds; far beyond what any program here takes.
_RUN_LIMIT = timedelta(seconds=300)
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessFailed(RuntimeError):
    """A process of a benchmark ended before it had done its work; the message is what it wrote."""


@asynccontextmanager
async def running(
    module: str,
    arguments: Sequence[str] = (),
    *,
    log: Path,
    ready: str = "",
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[ChildProcess, re.Match[str]]]:
    """
    `python -m module` while the block runs, with nothing of this environment but `variables`.

    Yields once its output matches the pattern `ready`, which the empty one does at once. Raises
    ProcessFailed when it ended first.
    """
    command = python_command(module, arguments, variables or {})
    child, found = await start_child(command, log=log, ready=ready, limit=_START_LIMIT)
    if found is None:
        raise ProcessFailed(f"{module} ended with {child.exit_code}: {child.output()[-2_000:]}")
    try:
        yield child, found
    finally:
        await child.stop(grace=_STOP_GRACE)


async def run_to_end(
    module: str, arguments: Sequence[str], *, log: Path, variables: Mapping[str, str] | None = None
) -> dict[str, float]:
    """
    Run `python -m module` and return the JSON object in the last line that it wrote.

    Raises ProcessFailed when there is none, and TimeoutError.
    """
    command = python_command(module, arguments, variables or {})
    child, found = await start_child(command, log=log, ready=r"(?m)^\{.*\}$", limit=_RUN_LIMIT)
    if found is None:
        raise ProcessFailed(f"{module} ended with {child.exit_code}: {child.output()[-2_000:]}")
    await child.stop(grace=_STOP_GRACE)
    answer: dict[str, float] = json.loads(found[0])
    return answer


def python_command(module: str, arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """A command that runs a module of this project in an environment of its own."""
    env = shutil.which("env")
    if env is None:
        raise ProcessFailed("the benchmarks need the program 'env'")
    given = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    return [
        env,
        "-i",
        *(f"{name}={value}" for name, value in given.items()),
        sys.executable,
        "-m",
        module,
        *arguments,
    ]


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used so far, its own and the kernel's for it."""
    # The name of the program, in parentheses, may hold spaces; fields are counted from behind it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_megabytes(pid: int, *, peak: bool = False) -> float:
    """The memory that a process holds, or the most that it ever held, in units of 1,000,000 bytes."""
    field = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise ProcessFailed(f"process {pid} has ended")
    return int(found[1]) * 1_024 / 1_000_000
