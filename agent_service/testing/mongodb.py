"""A MongoDB server that lives as long as a test run: its data in shared memory, and gone with it."""

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.data_folder import hold_data_folder
from agent_service.local.mongod import EmbeddedMongod, start_mongod

#: Names a server of the user's own, which the fixtures use then in the place of an embedded one.
URI_VARIABLE = "AGENT_SERVICE_TEST_MONGODB_URI"

_SHARED_MEMORY = Path("/dev/shm")
#: An empty server has 200 MB of journal and collections; a container may have 64 MB of shared memory in all.
_ENOUGH_BYTES = 1024**3
_PREFIX = "agent_service_mongod_"
#: A folder so young may not be held yet.
_ABANDONED_AFTER = timedelta(minutes=1)


@asynccontextmanager
async def temporary_mongod(
    *, extra_arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> AsyncIterator[EmbeddedMongod]:
    """
    A replica set of one node while the block runs, empty at first; its data are removed at the end.

    `environment` is added to that of this process. Raises `LocalPartUnavailable`, with what to do about it.
    """
    with temporary_folder() as folder:
        server = await start_mongod(folder, extra_arguments=extra_arguments, environment=environment)
        try:
            yield server
        finally:
            await server.stop()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """
    A folder in shared memory where there is enough of it, else where temporary files are.

    What killed processes left there goes with the next one that begins.
    """
    parent = _parent()
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with hold_data_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parent() -> Path:
    usable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    if usable and shutil.disk_usage(_SHARED_MEMORY).free >= _ENOUGH_BYTES:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, LocalPartUnavailable):
            # Somebody may hold it, or remove it right now, or it is another user's.
            if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER.total_seconds():
                with hold_data_folder(folder):
                    shutil.rmtree(folder, ignore_errors=True)
