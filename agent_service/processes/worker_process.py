"""WorkerProcess: one of several worker processes, as the process that started it sees it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

from agent_service.processes.output_relay import OutputRelay

#: How often a process is looked at.
_LOOK_EVERY = timedelta(milliseconds=100)
#: How long the output of a process that has ended is waited for; what it started may hold its pipes.
_LAST_OUTPUT_WITHIN = timedelta(seconds=1)


class WorkerProcess:
    """
    A program of its own, in a session of its own: Ctrl-C in a terminal reaches its parent alone.

    Its standard input is a pipe that it watches. To close it asks it to stop, and the kernel closes it when
    the parent ends: so it stops in the same way whatever becomes of the parent, and a supervisor that sends
    its signals to every process, as systemd does, asks for nothing twice.

    It is `agent-service` with `arguments`; to make one raises OSError where there can be no further process.
    It is started by `subprocess` and not by the event loop: uvloop runs Python code in the fork, and pymongo
    has some that looks for its event loop there.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            _command(arguments), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._relays: list[OutputRelay] = []
        self._transports: list[asyncio.BaseTransport] = []

    async def relay_output(self, mark: Callable[[bytes], bytes]) -> None:
        """Write here what it writes, each line marked. Raises OSError where that cannot be; it is ended."""
        try:
            await self._relay_output(mark)
        except BaseException:
            self.kill()
            # Closes the pipes, and waits until it is gone.
            with self._process:
                raise

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code, once it has ended and its output is written; negative when a signal ended it."""
        # There is no event to wait for: uvloop keeps SIGCHLD to itself.
        while (code := self._process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_OUTPUT_WITHIN.total_seconds()):
                for relay in self._relays:
                    await relay.ended.wait()
        for transport in self._transports:
            transport.close()
        self.stop()
        return code

    def stop(self) -> None:
        """Ask it to stop in order; to ask again changes nothing."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """End it now, if it still runs."""
        self._process.kill()

    async def _relay_output(self, mark: Callable[[bytes], bytes]) -> None:
        loop = asyncio.get_running_loop()
        for pipe, output in ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr)):
            transport, relay = await loop.connect_read_pipe(partial(OutputRelay, output.buffer, mark), pipe)
            self._relays.append(relay)
            self._transports.append(transport)


def _command(arguments: Sequence[str]) -> list[str]:
    """This program with other arguments; the working directory is searched for modules only if it is here."""
    searched = sys.path[:1] in ([""], [os.getcwd()])
    # The options of this interpreter, such as -I, as multiprocessing hands them on.
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # of the standard library
    return [sys.executable, *options, *([] if searched else ["-P"]), "-m", "agent_service", *arguments]
