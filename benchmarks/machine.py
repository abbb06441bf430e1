"""Machine: what the figures were measured on, without names and paths."""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.stage import CACHE, Stage

#: Libraries whose version decides about the figures.
_LIBRARIES = ("pymongo", "httpx2", "aiohttp", "uvloop", "orjson")


async def describe_machine(stage: Stage) -> Mapping[str, str | int | float]:
    """Cores, memory, and versions."""
    build: dict[str, Any] = await stage.client.admin.command("buildInfo")
    return {
        "cores": os.cpu_count() or 0,
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "data_on": filesystem_of(stage.folder, _mounts()),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "mongod": str(build["version"]),
        "mongod_cache": CACHE,
        "replica_set_members": 1,
    }


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text()
    except OSError:
        return ""


def filesystem_of(folder: Path, mounts: str) -> str:
    """The kind of file system that a folder is on, such as ext4; `mounts` is the kernel's list of them."""
    kinds = {Path(line.split()[1]): line.split()[2] for line in mounts.splitlines()}
    return next((kinds[place] for place in (folder, *folder.parents) if place in kinds), "unknown")


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
