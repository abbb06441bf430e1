"""hold_data_folder: one process at a time keeps its data in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_service.domain.errors import LocalPartUnavailable

_LOCK = "lock"
_INSTEAD = "set AGENT_SERVICE_DATA to another folder"


@contextmanager
def hold_data_folder(*candidates: Path) -> Iterator[Path]:
    """
    Take the first folder that no other process holds, made if it is missing, while the block runs.

    The kernel lets go of it when this process ends, however it ends. Yields the absolute path. Raises
    LocalPartUnavailable when all are held, or one cannot be made or written to.
    """
    for candidate in candidates:
        folder = candidate.absolute()
        lock = _try_lock(folder)
        if lock is not None:
            try:
                yield folder
            finally:
                os.close(lock)
            return
    names = ", ".join(str(candidate.absolute()) for candidate in candidates)
    raise LocalPartUnavailable(
        f"the data folder {names} is in use by another agent_service; stop that one, or {_INSTEAD}"
    )


def _try_lock(folder: Path) -> int | None:
    """The open lock file, or None when another process has locked it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalPartUnavailable(
            f"the data folder {folder} cannot be used: {error.strerror}; {_INSTEAD}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
