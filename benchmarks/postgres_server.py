"""The PostgreSQL that others are measured on: its own process and folder, each commit on disk."""

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from agent_service.local.child_process import start_child
from agent_service.local.free_port import free_port
from benchmarks.processes import ProcessFailed

NOT_FOUND = "there is no PostgreSQL server here: what it would be compared with is left out"
_LIMIT = timedelta(seconds=30)
_USER = "bench"
#: Where Debian keeps the programs of its servers, which it does not put on the PATH.
_DEBIAN = Path("/usr/lib/postgresql")


def find_postgres() -> Path | None:
    """The folder of the server's programs, if it is installed."""
    program = shutil.which("postgres")
    if program is not None:
        return Path(program).parent
    found = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@asynccontextmanager
async def postgres_server(programs: Path, folder: Path) -> AsyncIterator[str]:
    """
    The address of a PostgreSQL with its data in `folder`, which waits for the disk with every commit.

    It refuses to run as root: where this process does, it is started as another user, who gets the folder.
    Raises ProcessFailed when it does not start.
    """
    port, data = free_port(), folder / "data"
    as_user = _as_another_user(folder) if os.getuid() == 0 else []
    options = ["-U", _USER, "--auth=trust", "--locale=C", "--encoding=UTF8"]
    command = [*as_user, str(programs / "initdb"), "-D", str(data), *options]
    made = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ProcessFailed(f"initdb ended with {made.returncode}: {made.stderr[-500:]}")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_buffers": "512MB",
        "max_wal_size": "4GB",
    }
    arguments = [*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    arguments += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = folder / "postgres.log"
    child, found = await start_child(arguments, log=log, ready="ready to accept connections", limit=_LIMIT)
    if found is None:
        raise ProcessFailed(f"postgres ended: {child.output()[-500:]}")
    try:
        yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        await child.stop(grace=_LIMIT)


def _as_another_user(folder: Path) -> list[str]:
    """What goes before a command so that it does not run as root; the folder becomes this user's."""
    program = shutil.which("setpriv")
    if program is None:
        raise ProcessFailed(
            "PostgreSQL does not run as root, and there is no setpriv to start it as another user"
        )
    user = _find_user()
    os.chown(folder, user.pw_uid, user.pw_gid)
    # The way to it is made by this process, for itself alone.
    folder.parent.chmod(folder.parent.stat().st_mode | 0o011)
    # The kernel forgets with the user what it was told of the death of the parent.
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [program, *ids, "--pdeathsig=KILL"]


def _find_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
