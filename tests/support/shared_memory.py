"""Folders in shared memory, where a MongoDB of the tests has its data: its syncs cost nothing there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
#: What must be free: each server has two journals of 100 MiB, an oplog and a cache; a run has eight.
_ENOUGH_BYTES = 4 * 1024**3
_PREFIX = "agent_service-tests-"


@contextmanager
def data_folder(fallback: Path, *, shared_memory: Path = SHARED_MEMORY) -> Iterator[Path]:
    """
    A folder in shared memory for as long as this is open, or `fallback` where there is none or it is small.

    Also removes what runs that were killed have left there.
    """
    if not _is_usable(shared_memory):
        yield fallback
        return
    _remove_leftovers(shared_memory)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=shared_memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_usable(shared_memory: Path) -> bool:
    try:
        return os.access(shared_memory, os.W_OK) and shutil.disk_usage(shared_memory).free >= _ENOUGH_BYTES
    except OSError:
        return False


def _remove_leftovers(shared_memory: Path) -> None:
    """Remove the folders of processes that have ended; their servers have ended with them."""
    for folder in shared_memory.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
