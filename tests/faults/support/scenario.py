"""
Scenario: everything that a test with real processes needs, and its judgement at the end.

    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        await run.fleet.start(api_role(), worker_role(), worker_role())
        await run.fleet.submit(DIAMOND)
        ...                                        # break something, heal it

When the block ends, the backlog has to drain; then all processes are killed and the checker judges what
happened. Whether that fails or the block, the history is written to a file, and the failure names it.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.faults.support.checker import assert_sound
from tests.faults.support.fleet import LEASE_SECONDS, Fleet
from tests.faults.support.follower import follow
from tests.faults.support.history import Bounds, History, Reading, Sample
from tests.faults.support.observer import Observer, observe
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet

#: What a killed worker held is taken back within lease + sweep; the rest is for a busy machine. For the
#: bounds of scenarios in which somebody who could do that lives all the time.
TAKEN_BACK_WITHIN = timedelta(seconds=1.5 * LEASE_SECONDS + 10)
#: The last so many log lines of each process are part of a failure.
_LAST_LINES = 15


@dataclass(slots=True)
class Scenario:
    """One run; `bounds`, `readings` and `samples` are for the checker."""

    fleet: Fleet
    observer: Observer
    service: RecordingService
    folder: Path
    bounds: Bounds = field(default_factory=Bounds)
    readings: list[Reading] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    _readers: list[asyncio.Task[Reading]] = field(default_factory=list)

    def read_along(self, request_id: str) -> None:
        """Follow a request's events beside the scenario; what the reader is shown is judged with the rest."""
        reader = asyncio.create_task(follow(lambda: self.fleet.api.url, request_id))
        self._readers.append(reader)

    async def history(self) -> History:
        """What has happened so far."""
        return await self.observer.history(
            calls=self.service.calls,
            acknowledged=self.fleet.acknowledged,
            readings=self.readings,
            killed=self.fleet.kills(self.observer),
            samples=self.samples,
            bounds=self.bounds,
        )

    async def judge(self, *, drain_seconds: float = 60) -> History:
        """Let the backlog drain, end the processes, and fail if anything was wrong."""
        await self.fleet.wait_until_drained(seconds=drain_seconds)
        self.readings += await asyncio.gather(*self._readers)
        self.fleet.stop()
        await self.service.wait_until_idle()
        history = await self.history()
        assert_sound(history)
        return history

    async def tell(self, error: BaseException) -> None:
        """Add to a failure where its history is, and what the processes said last."""
        self.fleet.stop()
        path = (await self.history()).dump(self.folder / "history.jsonl")
        error.add_note(f"the history is in {path}")
        for process in self.fleet.processes:
            lines = process.output().splitlines()[-_LAST_LINES:]
            error.add_note("\n".join([f"{process.name} (exit code {process.exit_code}):", *lines]))

    def end(self) -> None:
        """Nobody reads any more."""
        for reader in self._readers:
            reader.cancel()


@asynccontextmanager
async def scenario(
    replica_set: ReplicaSet,
    database: str,
    service: RecordingService,
    folder: Path,
    *,
    services: Collection[str] = ("generation",),
    drain_seconds: float = 60,
    mongodb_uri: str | None = None,
    **variables: object,
) -> AsyncIterator[Scenario]:
    """
    A scenario on the set; `variables` are for every process (`generation_concurrency=2`).

    With `mongodb_uri` the processes go there instead (through a gate) and only the observer to the set.
    """
    fleet = Fleet(mongodb_uri or replica_set.uri, database, service, folder, services=services, **variables)
    async with observe(replica_set.uri, database) as observer, fleet:
        run = Scenario(fleet, observer, service, folder)
        try:
            yield run
            await run.judge(drain_seconds=drain_seconds)
        except BaseException as error:
            await run.tell(error)
            raise
        finally:
            run.end()
