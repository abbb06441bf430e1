"""ForkedProcess: a command of agent_service that runs at once, because it is forked and not started anew."""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = Path(__file__).with_name("fork_server.py")
_ordering = Lock()


class ForkedProcess:
    """
    `agent-service …` in `folder`, with this environment alone and in a session of its own.

    It ends with the process of the test at the latest. `PYTHONPATH` has the tree that the package is taken
    from. What the loader has to load first, such as another clock, takes a process that is started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: IO[bytes],
        errors: IO[bytes] | None = None,
        given: IO[bytes] | None = None,
    ) -> None:
        order = {"arguments": [*arguments], "folder": str(folder), "environment": {**environment}}
        self._end, tells = os.pipe()
        self._code: int | None = None
        try:
            with open(os.devnull, "rb") as nothing:
                files = [file.fileno() for file in (given or nothing, output, errors or output)]
                with _ordering:
                    server = _server(environment.get("PYTHONPATH", str(_ROOT)))
                    socket.send_fds(server, [json.dumps(order).encode()], [*files, tells])
                    self.pid = int(server.recv(20))
        finally:
            os.close(tells)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._ended(0)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself. Raises TimeoutError."""
        code = self._ended(seconds)
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {seconds} s")
        return code

    def kill(self) -> None:
        """End it now, if it still runs."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(60)

    def _ended(self, seconds: float) -> int | None:
        if self._code is None:
            end = select.poll()
            end.register(self._end, select.POLLIN)
            if end.poll(seconds * 1000):
                self._code = int(os.read(self._end, 20))
                os.close(self._end)
        return self._code


@cache
def _server(tree: str) -> socket.socket:
    """The way to this process's fork server of a tree, which ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": tree},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours
