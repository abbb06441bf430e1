"""WorkerProcesses: runs a worker in several processes, and starts those again that end by themselves."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from loguru import logger

from agent_service.domain.errors import WorkerProcessFailed
from agent_service.processes.output_relay import marker
from agent_service.processes.worker_process import WorkerProcess

#: A process that ends more often than so many times in this time is not started again.
_RESTARTS, _RESTARTS_WITHIN = 3, timedelta(minutes=1)
#: Before the first restart within that time; twice as long before each that follows.
_PAUSE = timedelta(seconds=1)
#: The exit code of a process whose settings are wrong, which no restart mends; as in `cli.exit_codes`.
WRONG_SETTINGS = 2
#: How a process ends that was told to stop; by a signal where that came while it was still loading.
_IN_ORDER = (0, -signal.SIGTERM, -signal.SIGINT)


class WorkerProcesses:
    """
    The processes 1 to `number`, each the program `agent-service` with `arguments` and `--process` in front.

    One that ends although nobody asked for it is started again, so that the attempts of the others go on.
    Where it ends again and again, or because of its settings, all the others are stopped in order.
    """

    def __init__(
        self, arguments: Sequence[str], *, number: int, log_format: Literal["console", "json"]
    ) -> None:
        self._arguments = tuple(arguments)
        self._number = number
        self._log_format: Literal["console", "json"] = log_format
        self._running: dict[int, WorkerProcess] = {}
        self._stopping = asyncio.Event()
        #: In the order in which they came.
        self._failures: list[WorkerProcessFailed] = []

    async def run(self) -> None:
        """
        Run all until cancelled, and then until the last has stopped.

        Raises `WorkerProcessFailed` with the exit code of the first that was not started again, or that did
        not stop in order.
        """
        keepers = [asyncio.create_task(self._keep(number + 1)) for number in range(self._number)]
        try:
            await asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._stop()
            await asyncio.gather(*keepers)
            if self._failures:
                raise self._failures[0]

    def kill(self) -> None:
        """End all of them now."""
        for process in self._running.values():
            process.kill()

    def _stop(self) -> None:
        self._stopping.set()
        for process in self._running.values():
            process.stop()

    async def _keep(self, number: int) -> None:
        """Run the process with this number, and run it again, until it is asked to stop."""
        ends: list[float] = []
        while not self._stopping.is_set():
            code = await self._run(number)
            if self._stopping.is_set():
                if code not in _IN_ORDER:
                    self._fail(f"{self._name(number)} {_told(code)} while it stopped", code)
                return
            now = time.monotonic()
            ends = [*(end for end in ends if now - end < _RESTARTS_WITHIN.total_seconds()), now]
            if code == WRONG_SETTINGS:
                self._fail(f"{self._name(number)} cannot work as it is set up, so all of them stop", code)
            elif len(ends) > _RESTARTS:
                times = f"and {len(ends)} times within a minute, so all of them stop"
                self._fail(f"{self._name(number)} {_told(code)}, {times}", code)
            else:
                pause = _PAUSE * 2 ** (len(ends) - 1)
                await self._pause(f"{self._name(number)} {_told(code)}", code, pause)

    async def _run(self, number: int) -> int:
        """Run it once; returns what it ended with."""
        arguments = [*self._arguments, "--process", str(number)]
        try:
            # From the moment in which it is there, whoever ends all of them ends this one too.
            process = self._running[number] = WorkerProcess(arguments)
            await process.relay_output(marker(number, self._log_format))
            logger.info("{} runs as pid {}", self._name(number), process.pid)
            if self._stopping.is_set():
                process.stop()
            return await process.wait()
        except OSError as error:
            logger.error("{} cannot be started: {}", self._name(number), error.strerror)
            return 1
        finally:
            self._running.pop(number, None)

    async def _pause(self, what: str, code: int, pause: timedelta) -> None:
        level = "ERROR" if code else "WARNING"
        logger.log(level, "{}; it is started again in {:g} s", what, pause.total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._stopping.wait()

    def _fail(self, message: str, code: int) -> None:
        """Stop all of them, with this as the reason unless there is one already."""
        logger.error("{}", message)
        exit_code = 128 - code if code < 0 else code or 1
        self._failures.append(WorkerProcessFailed(message, exit_code=exit_code))
        self._stop()

    def _name(self, number: int) -> str:
        return f"worker process {number} of {self._number}"


def _told(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
