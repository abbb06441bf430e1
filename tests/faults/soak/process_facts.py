"""Facts of a process that /proc tells."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """`resident` is in bytes."""

    pid: int
    resident: int
    open_files: int
    sockets: int
    threads: int


def facts_of(pid: int | None) -> ProcessFacts | None:
    """Of this process if `pid` is None; None if there is none any more."""
    number = os.getpid() if pid is None else pid
    folder = Path(f"/proc/{number}")
    try:
        status = (folder / "status").read_text()
        links = [_target(entry) for entry in (folder / "fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    resident, threads = re.search(r"VmRSS:\s+(\d+) kB", status), re.search(r"Threads:\s+(\d+)", status)
    if resident is None or threads is None:
        return None
    return ProcessFacts(
        pid=number,
        resident=int(resident[1]) * 1024,
        open_files=len(links),
        sockets=sum(link.startswith("socket:") for link in links),
        threads=int(threads[1]),
    )


def exists(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _target(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except FileNotFoundError:
        return ""
