"""`python -m tests.faults.soak`: run a soak on a set of servers of its own, and exit with 1 if it fails."""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loguru import logger

from tests.faults.soak.process_facts import exists
from tests.faults.soak.report import Report
from tests.faults.soak.run import Soak, run_soak
from tests.faults.soak.troubles import KINDS
from tests.faults.support.replica_set import ReplicaSet

#: How data folders are called; the id of the process follows.
_DATA = "agent-service-soak-"
_RESULTS = Path(__file__).resolve().parents[3] / "soak-results"


def main() -> int:
    """Read the arguments, run, and report."""
    arguments = _parser().parse_args()
    seed = random.SystemRandom().randrange(10_000) if arguments.seed is None else arguments.seed
    soak = Soak(
        seed=seed,
        length=timedelta(minutes=arguments.minutes),
        rate=arguments.rate,
        round_length=timedelta(minutes=arguments.round_minutes),
        kinds=tuple(arguments.trouble or ()),
    )
    folder = arguments.results / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-seed{seed}"
    folder.mkdir(parents=True)
    # What the harness itself meets belongs beside the results, not among what is printed.
    logger.remove()
    logger.add(folder / "harness.log", level="INFO")
    try:
        report = asyncio.run(_run(soak, folder))
    except asyncio.CancelledError:
        _say("stopped")
        return 130
    print(report.text())
    print(f"the results are in {folder}")
    return 1 if report.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="how long the load lasts (20)")
    parser.add_argument("--seed", type=int, help="what everything follows from (a random one)")
    parser.add_argument("--rate", type=float, default=4, help="requests a second (4)")
    parser.add_argument("--round-minutes", type=float, default=5, help="minutes between two judgements (5)")
    parser.add_argument("--trouble", action="append", choices=list(KINDS), help="only these kinds")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder for the results")
    return parser


async def _run(soak: Soak, folder: Path) -> Report:
    """Run it in a data folder that goes with it; SIGTERM and SIGINT end it cleanly."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    _remove_leftovers()
    data = Path(tempfile.mkdtemp(prefix=f"{_DATA}{os.getpid()}-"))
    replica_set = ReplicaSet(data)
    try:
        await replica_set.start()
        report = await run_soak(soak, replica_set, database="soak", folder=folder, say=_say)
    finally:
        pids = [member.pid for member in replica_set.members if member.is_running]
        replica_set.stop()
        shutil.rmtree(data, ignore_errors=True)
        left = [pid for pid in pids if exists(pid)]
        if left:
            _say(f"these servers still run: {left}")
    return report


def _remove_leftovers() -> None:
    """Remove the data of runs that were killed, so that nobody had the time to."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_DATA}*-*"):
        pid = folder.name.removeprefix(_DATA).split("-")[0]
        if pid.isdigit() and not exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
