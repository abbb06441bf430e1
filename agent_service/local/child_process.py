"""
ChildProcess: a program that belongs to this process and ends with it.

It is started by polling `subprocess.Popen` and not by asyncio's own subprocesses, because those are tied
to the event loop that made them, and a server may outlive one loop (a test session has many).
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

#: How often a starting or stopping child is looked at, in seconds.
POLL_SECONDS = 0.02
#: A log longer than this begins anew at the next start.
LOG_LIMIT_BYTES = 16 * 1024 * 1024
#: What the launcher exits with when the program cannot be executed, as a shell does.
CANNOT_EXECUTE = 126

# Runs between fork and the program, in a Python of its own: code between fork and exec in this process
# (preexec_fn) can deadlock when it has threads. The kernel ends the program when its parent dies, also by
# SIGKILL; the comparison covers a parent that died before the kernel was told.
_LAUNCHER = f"""
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    print(f"cannot execute {{sys.argv[2]}}: {{error.strerror}}", file=sys.stderr)
    sys.exit({CANNOT_EXECUTE})
"""


class ChildProcess:
    """
    A running program with its standard output and error in a log file.

    On Linux the kernel kills it when the thread that started it ends, so start it from the event loop's
    thread. It is a session of its own: Ctrl-C in the terminal reaches only its parent, which then stops it.
    """

    def __init__(
        self, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *arguments]
        with _open_log(log) as output:
            self._offset = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if environment is None else {**os.environ, **environment},
            )
        self.log = log

    @property
    def pid(self) -> int:
        """The id of the program's process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    async def wait_for(self, pattern: str) -> re.Match[str] | None:
        """Wait until the output of this run matches; None when the child ended first."""
        while self.exit_code is None:
            found = re.search(pattern, self.output())
            if found is not None:
                return found
            await asyncio.sleep(POLL_SECONDS)
        return None

    def output(self) -> str:
        """What was written to the log since this child was started."""
        with self.log.open("rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")

    async def stop(self, *, grace: timedelta) -> None:
        """Ask it to end, wait for `grace`, then kill it. Safe to repeat; a cancelled stop kills it too."""
        try:
            if self.exit_code is None:
                self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace.total_seconds()):
                    # There is no event to wait for: see the docstring of this module.
                    while self.exit_code is None:  # noqa: ASYNC110
                        await asyncio.sleep(POLL_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it now, if it still runs, and forget it."""
        if self.exit_code is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


async def start_child(
    arguments: Sequence[str],
    *,
    log: Path,
    ready: str,
    limit: timedelta,
    environment: Mapping[str, str] | None = None,
) -> tuple[ChildProcess, re.Match[str] | None]:
    """
    Start a program and wait until its output matches the pattern `ready`.

    `environment` is added to that of this process. The match is None when the child ended first: its exit
    code and output tell why. Raises TimeoutError. Whatever goes wrong here, a cancellation included, no
    process is left.
    """
    child = ChildProcess(arguments, log=log, environment=environment)
    try:
        async with asyncio.timeout(limit.total_seconds()):
            found = await child.wait_for(ready)
    except BaseException:
        child.kill()
        raise
    if found is None:
        child.kill()
    return child, found


def _open_log(log: Path) -> IO[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        os.truncate(log, 0)
    output = log.open("ab")
    output.seek(0, os.SEEK_END)
    return output
