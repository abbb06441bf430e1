"""ParentProcess: what a worker process knows of the process that supervises it."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from loguru import logger

#: How long a graceful stop may take beyond the grace time of attempts, while MongoDB does not answer.
_LAST_WRITES = timedelta(minutes=2)
_LOOK_EVERY = timedelta(milliseconds=100)


class ParentProcess:
    """
    The process that started this one, and holds the other ends of its standard input, output and error.

    When it closes the input, or has gone for whatever reason, SIGKILL included, this process has to stop.
    """

    def __init__(self, *, grace: timedelta) -> None:
        self._pid = os.getppid()
        self._stop_within = grace + _LAST_WRITES

    def watch(self, stop: Callable[[], object]) -> None:
        """
        Call `stop` in a thread when this process has to stop; where it has not by then, it is ended.

        A thread sees it also while the event loop stands still. What this process starts gets an empty
        standard input.
        """
        pipe = os.dup(0)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        threading.Thread(target=self._wait, args=(pipe, stop), name="parent watch", daemon=True).start()

    def _wait(self, pipe: int, stop: Callable[[], object]) -> None:
        while os.read(pipe, 4096):
            pass
        # The event loop may have come to its end by itself.
        with suppress(RuntimeError):
            stop()
        deadline = time.monotonic() + self._stop_within.total_seconds()
        while time.monotonic() < deadline:
            if os.getppid() != self._pid:
                _write_nowhere()
            time.sleep(_LOOK_EVERY.total_seconds())
        logger.error(
            "this process did not stop within {:g} s, and is ended", self._stop_within.total_seconds()
        )
        os._exit(1)


def _write_nowhere() -> None:
    """Let no handler fail of what it prints, now that nobody reads it."""
    with open(os.devnull, "wb") as nothing:
        for output in (1, 2):
            os.dup2(nothing.fileno(), output)
