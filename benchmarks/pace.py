"""Pace: how fast a process does what it repeats, and what that costs it, told by the process itself."""

import json
import time
from collections.abc import Mapping
from typing import TypeAlias

from benchmarks.figures import steady_rate

#: `rate` is in events per second, `cpu_ms` the processor time of the process for each event.
Told: TypeAlias = Mapping[str, float]


class Pace:
    """Begins when it is made; `tick` is called at the end of every event."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._cpu = time.process_time()

    def tick(self) -> None:
        """One more is done."""
        self._ends.append(time.perf_counter())

    @property
    def count(self) -> int:
        """How many are done."""
        return len(self._ends)

    def tell(self) -> None:
        """Print the pace as one line of JSON, for the process that started this one."""
        cpu = time.process_time() - self._cpu
        told: Told = {"rate": steady_rate(self._ends), "cpu_ms": cpu / len(self._ends) * 1_000}
        print(json.dumps(told), flush=True)
