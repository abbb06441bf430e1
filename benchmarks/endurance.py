"""
Benchmark `endurance`: whether claims stay as quick as they are at first.

What was claimed leaves an index, and its keys stay for the history that the server keeps for snapshots, five
minutes unless it is told otherwise: a claim that begins at the front of the line walks over all of them. So
claims become slower for five minutes at a steady load, and are slow for five minutes after a burst; whoever
measures for a few seconds sees neither.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from agent_service.request_service import RequestService
from agent_service.store import Store
from benchmarks.backlog import submission
from benchmarks.claim_record import Slice, read_record
from benchmarks.noop_worker import SERVICE
from benchmarks.stage import Stage
from benchmarks.worker_process import drained, noop_worker, until_ready

CONCURRENCY = 32
BURST, QUICK_BURST = 100_000, 2_000
#: After the burst, so that claims are lone ones; and for how long, a minute more than the server's history.
AFTER_BURST_RATE, AFTER_BURST_MINUTES = 20, 6
QUICK_RATE, QUICK_SLICES, QUICK_SLICE_SECONDS = 200, 3, 2.0
#: Submissions that are due within so many seconds go together.
_TOGETHER = 0.05
_SUBMISSION = submission(SERVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """So many pieces of a run, each so long, at so many requests per second."""

    rate: float
    slices: int
    seconds: float = 60.0


async def measure(stage: Stage) -> None:
    """A steady load for minutes, and then lone requests after a burst."""
    steady = Course(rate=stage.load.rate, slices=stage.load.minutes)
    lone = Course(rate=AFTER_BURST_RATE, slices=min(AFTER_BURST_MINUTES, stage.load.minutes))
    if stage.quick:
        steady = Course(rate=QUICK_RATE, slices=QUICK_SLICES, seconds=QUICK_SLICE_SECONDS)
        lone = Course(rate=AFTER_BURST_RATE, slices=QUICK_SLICES, seconds=QUICK_SLICE_SECONDS)
    async with stage.default_history():
        await _measure_steady(stage, steady)
        await _measure_after_burst(stage, lone, QUICK_BURST if stage.quick else BURST)


async def _measure_steady(stage: Stage, course: Course) -> None:
    async with stage.fresh_store() as (store, database):
        file = stage.new_folder("claims") / "record.json"
        async with noop_worker(stage, database, CONCURRENCY, record=file):
            await until_ready(stage, database, 1)
            began = time.monotonic()
            await submit_steadily(store, course)
            waiting = await stage.client[database]["contexts"].count_documents({"status": "pending"})
        slices = _read(stage, file, began, course, f"at {course.rate:,g}/s")
        stage.results.add("endurance: waiting at the end of the steady load", "contexts", waiting)
        ratio = slices[-1].claim_ms / slices[0].claim_ms
        stage.results.add("endurance: claim time, last minute / first", "ratio", ratio)


async def _measure_after_burst(stage: Stage, course: Course, burst: int) -> None:
    async with stage.fresh_store() as (store, database):
        await stage.fill(database, SERVICE, burst)
        file = stage.new_folder("claims") / "record.json"
        async with noop_worker(stage, database, CONCURRENCY, record=file) as worker:
            drain = await drained(stage, database, SERVICE, worker.pid)
            began = time.monotonic()
            await submit_steadily(store, course)
        stage.results.add(f"endurance: burst of {burst:,}", "contexts/s", drain.rate)
        slices = _read(stage, file, began, course, f"after a burst of {burst:,}")
        slowest = max(each.claim_ms for each in slices)
        stage.results.add("endurance: claim after a burst, slowest minute", "ms", slowest)


async def submit_steadily(store: Store, course: Course) -> None:
    """
    Submit for the length of the course, those that are due together as one batch.

    Raises ExceptionGroup with what a submission failed of.
    """
    requests = RequestService(store, max_attempts={SERVICE: 5})
    began, sent = time.monotonic(), 0
    pause = max(_TOGETHER, 1 / course.rate)
    while (elapsed := time.monotonic() - began) < course.slices * course.seconds:
        due = int(elapsed * course.rate) - sent
        if due:
            answers = await requests.submit_many([_SUBMISSION] * due)
            if failed := [answer for answer in answers if isinstance(answer, Exception)]:
                raise ExceptionGroup("what was submitted was refused", failed)
            sent += due
        await asyncio.sleep(began + elapsed + pause - time.monotonic())


def _read(stage: Stage, file: Path, began: float, course: Course, about: str) -> list[Slice]:
    """What the worker noted, by minute, as figures too."""
    slices = read_record(file).slices(began, seconds=course.seconds, number=course.slices)
    for number, each in enumerate(slices, start=1):
        stage.results.add(f"endurance: claim {about}, minute {number}", "ms", each.claim_ms)
        stage.results.add(f"endurance: rate {about}, minute {number}", "contexts/s", each.rate)
    return slices
