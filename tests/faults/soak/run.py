"""run_soak: rounds of troubles under load, each judged when all is healed and nothing is left to do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent_service.store import Store
from tests.faults.soak.answers import Answers
from tests.faults.soak.judge import judge, statuses_of, tell
from tests.faults.soak.load import Load
from tests.faults.soak.log_watch import LogWatch
from tests.faults.soak.report import Report
from tests.faults.soak.samples import Sampler
from tests.faults.soak.stage import SERVICES, VARIABLES, Stage
from tests.faults.soak.troubles import Trouble, break_and_heal, schedule
from tests.faults.support.counts import counts
from tests.faults.support.fleet import Fleet
from tests.faults.support.history import History
from tests.faults.support.observer import Observer, observe
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet

#: From the end of the troubles until every client has seen an end, and until nothing is left to do.
_CLIENTS_LIMIT, _DRAIN_LIMIT = timedelta(minutes=4), timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """What is asked for: `rate` in requests per second; `kinds` of troubles, all if empty."""

    seed: int
    length: timedelta
    rate: float = 4.0
    #: After each round everything is healed, drained and judged, and the history forgotten.
    round_length: timedelta = timedelta(minutes=5)
    sample_every: timedelta = timedelta(seconds=10)
    kinds: tuple[str, ...] = ()
    #: Quiet seconds between two troubles (from, to).
    pauses: tuple[float, float] = (2.0, 4.0)
    #: A round goes on until so many troubles are over, however long that takes.
    least_troubles: int = 0

    def rounds(self) -> list[timedelta]:
        """The lengths of the rounds."""
        number = max(round(self.length / self.round_length), 1)
        return [self.length / number] * number

    def troubles(self) -> Iterator[Trouble]:
        """What is broken, in order."""
        return schedule(self.seed, self.kinds, pauses=self.pauses)

    def describe(self) -> str:
        """What is going to happen; of the troubles, as many as there may be time for."""
        seconds, lines = 0.0, [f"seed {self.seed}: {self.length}, {self.rate:g} requests a second"]
        for trouble in self.troubles():
            seconds += trouble.pause + trouble.lasts
            lines.append(f"  {trouble}")
            if seconds > self.length.total_seconds():
                break
        return "\n".join(lines)


async def run_soak(
    soak: Soak, replica_set: ReplicaSet, *, database: str, folder: Path, say: Callable[[str], None]
) -> Report:
    """
    Run it on a set that is whole; what it finds is in `folder` as well.

    It stops after the first round with a violation. Nothing is left running, whatever happens.
    """
    say(soak.describe())
    report = Report(seed=soak.seed, minutes=soak.length / timedelta(minutes=1), rate=soak.rate)
    logs = LogWatch(folder / "processes")
    async with _staged(replica_set, database, folder) as (stage, observer):
        sampler = Sampler(stage, logs, path=folder / "samples.jsonl", every=soak.sample_every)
        sampling = asyncio.create_task(sampler.run(), name="samples")
        load = Load(stage, seed=soak.seed, rate=soak.rate)
        term = await _term(replica_set)
        try:
            numbered = enumerate(soak.rounds(), start=1)
            troubles = soak.troubles()
            for number, length in numbered:
                say(f"round {number}: {length.total_seconds():.0f} s")
                over = asyncio.Event()
                await asyncio.gather(
                    load.run(over), _make_trouble(stage, soak, troubles, length, over, report=report, say=say)
                )
                await _settle_down(stage, load, report)
                history = await _history(stage, observer, load, sampler)
                _judge_round(stage, history, load, report, folder=folder, name=f"round{number}")
                _forget(stage, observer, load)
                say(f"round {number}: {len(report.violations)} violations, {len(report.surprises)} surprises")
                if report.violations or report.surprises:
                    break
            sampler.stop()
            await sampling
            report.elections = await _term(replica_set) - term
            report.surprises += await stage.stop()
        finally:
            load.cancel()
            sampler.stop()
            await asyncio.gather(sampling, return_exceptions=True)
            report.clients = load.tally
            report.take_samples(sampler.samples)
            report.take_logs(logs)
            report.write(folder)
    # Not by its number, which another process may have by now.
    left = [process.pid for process in stage.fleet.processes if process.is_running]
    report.surprises += [f"process {pid} still runs" for pid in left]
    report.write(folder)
    return report


@asynccontextmanager
async def _staged(
    replica_set: ReplicaSet, database: str, folder: Path
) -> AsyncIterator[tuple[Stage, Observer]]:
    uri = replica_set.uri
    async with (
        RecordingService() as service,
        Fleet(uri, database, service, folder / "processes", services=SERVICES, **VARIABLES) as fleet,
        Store.connect(uri, database=database) as store,
        observe(uri, database) as observer,
    ):
        stage = Stage(
            replica_set=replica_set, fleet=fleet, service=service, answers=Answers(service), store=store
        )
        try:
            await stage.start()
            yield stage, observer
        finally:
            await stage.close()


async def _make_trouble(
    stage: Stage,
    soak: Soak,
    troubles: Iterator[Trouble],
    length: timedelta,
    over: asyncio.Event,
    *,
    report: Report,
    say: Callable[[str], None],
) -> None:
    """One trouble after the other for so long; sets `over` when the last one is healed."""
    began = time.monotonic()
    ends = began + length.total_seconds()
    try:
        for number, trouble in enumerate(troubles):
            late = time.monotonic() + trouble.pause + trouble.lasts >= ends
            if late and number >= soak.least_troubles:
                break
            await asyncio.sleep(trouble.pause)
            broke = time.monotonic()
            await break_and_heal(stage, trouble)
            report.troubles[trouble.kind] += 1
            say(f"  {broke - began:6.1f} s  {trouble}; whole after {time.monotonic() - broke:.1f} s")
        await asyncio.sleep(max(ends - time.monotonic(), 0))
    finally:
        over.set()


async def _settle_down(stage: Stage, load: Load, report: Report) -> None:
    """Wait until nothing is left to do; what does not come to its end is found by the judge."""
    began = time.monotonic()
    await stage.replica_set.heal()
    await load.finish(_CLIENTS_LIMIT)
    try:
        await stage.fleet.wait_until_drained(seconds=_DRAIN_LIMIT.total_seconds())
        await stage.service.wait_until_idle()
    except AssertionError as error:
        report.surprises.append(str(error))
    report.drained_in.append(round(time.monotonic() - began, 1))


async def _history(stage: Stage, observer: Observer, load: Load, sampler: Sampler) -> History:
    """What happened since the last round."""
    return await observer.history(
        calls=stage.service.calls,
        acknowledged=stage.fleet.acknowledged,
        readings=load.readings,
        killed=stage.new_kills(observer),
        samples=sampler.new_samples(),
        bounds=stage.bounds(load.rate),
    )


def _judge_round(
    stage: Stage, history: History, load: Load, report: Report, *, folder: Path, name: str
) -> None:
    violations, late_calls = judge(history, stage.stops)
    report.late_calls += late_calls
    report.add(counts(history))
    report.duplicates += stage.answers.done_again
    report.ended += statuses_of(history)
    report.violations += map(str, violations)
    report.surprises += load.surprises
    if violations or load.surprises:
        tell(history, violations, folder, name=name)


def _forget(stage: Stage, observer: Observer, load: Load) -> None:
    """What was judged is not needed any more."""
    load.readings.clear()
    stage.stops.clear()
    load.surprises.clear()
    stage.fleet.acknowledged.clear()
    stage.service.forget()
    stage.answers.begin()
    observer.compact()


async def _term(replica_set: ReplicaSet) -> int:
    """The number of elections that the set has had."""
    primary = await replica_set.primary()
    status = await primary.command({"replSetGetStatus": 1})
    return int(status["term"])
