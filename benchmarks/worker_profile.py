"""
Where the processor time of a worker goes: `python -m benchmarks.worker_profile FILE SERVICE`.

It is the command `worker` under the profiler of the standard library, which writes to FILE when the worker
stops. The profiler makes many small functions look dearer than they are: it tells proportions, not costs.
"""

import cProfile
import pstats
import re
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from agent_service import main as composition
from agent_service.settings import load_settings
from agent_service.telemetry.logging import configure_logging

#: (file, line, name), as the profiler calls a function; what is not written in Python has the file "~".
Function: TypeAlias = tuple[str, int, str]
#: Own time by who called: (primitive calls, calls, own seconds, seconds in all).
Callers: TypeAlias = Mapping[Function, tuple[int, int, float, float]]
Profile: TypeAlias = Mapping[Function, tuple[int, int, float, float, Callers]]

_BUILT_IN = "~"


def read_shares(file: Path) -> Mapping[str, float]:
    """Part of the program → its share of the processor time, the largest first."""
    # The class says nothing of this attribute in its types; it is what `dump_stats` wrote.
    profile: Profile = vars(pstats.Stats(str(file)))["stats"]
    return shares_of(profile)


def shares_of(profile: Profile) -> Mapping[str, float]:
    """Like `read_shares`; what is built in counts for the part that called it."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for function, (_, _, own, _, callers) in profile.items():
        if function[0] != _BUILT_IN or not callers:
            seconds[part_of(function)] += own
            continue
        for caller, (_, _, own_there, _) in callers.items():
            seconds[part_of(caller)] += own_there
    total = sum(seconds.values())
    parts = sorted(seconds.items(), key=itemgetter(1), reverse=True)
    return {part: spent / total for part, spent in parts if total}


def part_of(function: Function) -> str:
    """The package of a function; of this project, the package within it."""
    file, _, name = function
    if file == _BUILT_IN:
        return "event loop" if "uvloop" in name or "Loop" in name else "built in"
    path = Path(file).as_posix()
    found = re.search(r"/site-packages/(\w+)", path)
    if found is not None:
        return found[1]
    found = re.search(r"/(agent_service)/(\w+)", path)
    if found is not None:
        return f"{found[1]}.{found[2]}"
    return "standard library"


def main() -> None:
    """Work for a service under the profiler until a signal comes."""
    file, service = sys.argv[1:]
    configure_logging(level="WARNING", format="console")
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    try:
        composition.run(composition.worker(load_settings(), service))
    finally:
        profiler.disable()
        profiler.dump_stats(file)


if __name__ == "__main__":
    main()
