"""
A process that claims when it is told to: `python -m benchmarks.claimer_process URI DATABASE`.

Each line on its standard input is a JSON object with the arguments of `claiming.claim`; it answers each with
`{"claims": …, "seconds": …}` and ends with its input.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from agent_service.main import new_event_loop
from agent_service.store import Store
from benchmarks.claiming import Tally, claim
from benchmarks.processes import ProcessFailed, python_command

Process: TypeAlias = subprocess.Popen[str]


class Crew:
    """Several such processes, all of which work on one database."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes

    async def claim(self, number: int, way: str, slots: int, *, seconds: float) -> float:
        """Claims per second of the first `number` of them together, all at the same time."""
        order = {
            "way": way,
            "slots": slots,
            "seconds": seconds,
            "at_most": sys.maxsize,
            "competitors": number - 1,
        }
        tallies = await asyncio.gather(
            *(asyncio.to_thread(_ask, process, order) for process in self._processes[:number])
        )
        return sum(tally.rate for tally in tallies)


@asynccontextmanager
async def open_crew(uri: str, database: str, number: int) -> AsyncIterator[Crew]:
    """So many processes, started and connected."""
    command = python_command("benchmarks.claimer_process", [uri, database], {})
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(command)) for _ in range(number)]
        # Whoever answers has connected.
        nothing = {"way": "batch", "slots": 1, "seconds": 0, "at_most": 0}
        await asyncio.gather(*(asyncio.to_thread(_ask, process, nothing) for process in processes))
        yield Crew(processes)


@contextmanager
def _started(command: list[str]) -> Iterator[Process]:
    # Not asyncio's own subprocesses: uvloop forks for them, and pymongo looks for its event loop in the fork.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        # Leaving the block closes the pipes, and with its input the process ends.
        yield process


def _ask(process: Process, order: Mapping[str, object]) -> Tally:
    if process.stdin is None or process.stdout is None:
        raise ProcessFailed("a claimer has no pipes")
    process.stdin.write(json.dumps(order) + "\n")
    line = process.stdout.readline()
    if not line:
        raise ProcessFailed("a claimer ended")
    answer = json.loads(line)
    return Tally(claims=answer["claims"], seconds=answer["seconds"])


async def _obey(uri: str, database: str) -> None:
    async with Store.connect(uri, database=database) as store:
        await store.prepare()
        while line := await asyncio.to_thread(sys.stdin.readline):
            order: dict[str, Any] = json.loads(line)
            tally = await claim(store, **order)
            print(json.dumps({"claims": tally.claims, "seconds": tally.seconds}), flush=True)


def main() -> None:
    """Claim as told."""
    uri, database = sys.argv[1:]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_obey(uri, database))


if __name__ == "__main__":
    main()
