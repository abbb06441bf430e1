"""
The regression guard: `python -m benchmarks.smoke`, ratios only, with margins for a noisy machine.

Every check may be repeated, because a busy machine can only make us slower: what is asserted is what the code
can do. It exits with 1 when a check fails each time.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from agent_service.main import new_event_loop
from benchmarks.claiming import SERVICE, claim
from benchmarks.claims import put_back
from benchmarks.report import number
from benchmarks.server_status import read_status
from benchmarks.stage import Stage, open_stage
from benchmarks.targets import Target, at_least, at_most
from benchmarks.throughput import worker_against_bare

#: How often a check is tried before it counts as failed.
TRIES = 3
_SLOTS = 32
_CLAIM_SECONDS = 0.5
_BACKLOG = 10_000
#: The service answers in so many milliseconds; so many calls are made of it.
_DELAY_MS, _CALLS = 100, 2_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something measured, and what it must be at least or at most."""

    name: str
    value: float
    bound: Target

    @property
    def passed(self) -> bool:
        """Whether it is within the bound."""
        return self.bound.allows(self.value)

    def __str__(self) -> str:
        return f"{'ok    ' if self.passed else 'FAILED'}  {self.name}: {number(self.value)} ({self.bound})"


async def check_claims(stage: Stage) -> list[Check]:
    """Batches against the naive way, and what each of them looks at for one claim."""
    rates, keys, conflicts = dict[str, float](), dict[str, float](), dict[str, float]()
    async with stage.fresh_store() as (store, database):
        await stage.fill(database, SERVICE, _BACKLOG, requests=False)
        for way in ("single", "batch"):
            before = await read_status(stage.client)
            tally = await claim(store, way, _SLOTS, seconds=_CLAIM_SECONDS, at_most=_BACKLOG - _SLOTS)
            after = await read_status(stage.client)
            await put_back(stage, database)
            rates[way] = tally.rate
            keys[way] = (after.keys_examined - before.keys_examined) / tally.claims
            conflicts[way] = (after.write_conflicts - before.write_conflicts) / tally.claims
    ratio = rates["batch"] / rates["single"]
    return [
        Check(name="batch claims / naive claims", value=ratio, bound=at_least(1.5)),
        Check(name="keys examined per naive claim", value=keys["single"], bound=at_most(2)),
        # Candidates and update look at one key each.
        # One to find it, one to write it, one to read it, and a few for the heads of lines.
        Check(name="keys examined per claim of a batch", value=keys["batch"], bound=at_most(3.5)),
        Check(name="write conflicts per claim of a batch", value=conflicts["batch"], bound=at_most(0.2)),
    ]


async def check_throughput(stage: Stage) -> list[Check]:
    """A worker against the bare client."""
    async with stage.stub(_DELAY_MS) as base_url:
        ours, bare = await worker_against_bare(stage, base_url, _CALLS)
    checks = [Check(name="worker / bare client", value=ours.rate / bare["rate"], bound=at_least(0.4))]
    if ours.worker_cpu is not None:
        # Other processes slow this down, and hardly make it dearer.
        cost = ours.worker_cpu / bare["cpu_ms"]
        checks.append(Check(name="processor time, worker / bare client", value=cost, bound=at_most(6)))
    return checks


async def passes(measure: Callable[[Stage], Awaitable[list[Check]]], stage: Stage) -> bool:
    """Whether all checks pass together in one of the tries; says what came out of each."""
    for _ in range(TRIES):
        checks = await measure(stage)
        print("\n".join(str(check) for check in checks), flush=True)
        if all(check.passed for check in checks):
            return True
    return False


async def _run() -> bool:
    folder = Path(tempfile.mkdtemp(prefix="agent-service-smoke-"))
    async with open_stage(folder, runs=1, quick=True) as stage:
        return all([await passes(measure, stage) for measure in (check_claims, check_throughput)])


def main() -> int:
    """Measure, and return the exit code."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return 0 if runner.run(_run()) else 1


if __name__ == "__main__":
    sys.exit(main())
