"""Samples: what processes, servers and collections hold, taken again and again and written as JSON lines."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from tests.faults.soak.log_watch import LogWatch
from tests.faults.soak.process_facts import ProcessFacts, facts_of
from tests.faults.soak.stage import Stage
from tests.faults.support import history

_COLLECTIONS = ("requests", "contexts", "events", "services", "workers")
_COUNTERS = ("insert", "query", "update", "delete", "getmore", "command")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSize:
    """Documents, and bytes of the data and of each index."""

    documents: int
    data: int
    indexes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look; what did not answer is missing. `second` counts from the beginning of the run."""

    at: str
    second: float
    processes: Mapping[str, ProcessFacts]
    #: Clients' connections of each server, by its address.
    connections: Mapping[str, int] = field(default_factory=dict)
    collections: Mapping[str, CollectionSize] = field(default_factory=dict)
    #: Operations of clients on all servers, and log lines of all processes by level, since the last sample.
    operations_per_second: float = 0.0
    log_lines_per_second: Mapping[str, float] = field(default_factory=dict)


class Sampler:
    """
    Takes a sample every so often until it is stopped; all of them are in `samples`.

    Its clients stay the same, and it is never cancelled: the driver leaves sockets open that it is just
    connecting then, and a sample every few seconds would sooner or later meet that.
    """

    def __init__(self, stage: Stage, logs: LogWatch, *, path: Path, every: timedelta) -> None:
        self._stage = stage
        self._logs = logs
        self._path = path
        self._every = every.total_seconds()
        self._began = self._last = time.monotonic()
        self._last_lines: Counter[str] = Counter()
        self._last_operations: dict[str, int] = {}
        self.samples: list[Sample] = []
        self._told = 0
        self._stopping = asyncio.Event()
        self._members = {
            member.address: AsyncMongoClient[dict[str, Any]](
                member.address, directConnection=True, serverSelectionTimeoutMS=1000, timeoutMS=2000
            )
            for member in stage.replica_set.members
        }
        self._whole = AsyncMongoClient[dict[str, Any]](
            stage.fleet.uri, serverSelectionTimeoutMS=1000, timeoutMS=3000
        )

    async def run(self) -> None:
        """Sample until `stop`."""
        try:
            while not self._stopping.is_set():
                await self.take()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._every)
        finally:
            for client in (*self._members.values(), self._whole):
                await client.close()

    def stop(self) -> None:
        """End `run` after the sample that is being taken."""
        self._stopping.set()

    async def take(self) -> None:
        """Take one sample."""
        answers = await asyncio.gather(*map(_server_status, self._members.values()))
        statuses = {
            address: status
            for address, status in zip(self._members, answers, strict=True)
            if status is not None
        }
        collections = await self._collections()
        now = time.monotonic()
        elapsed, self._last = now - self._last, now
        sample = Sample(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            second=round(now - self._began, 1),
            processes=self._processes(),
            connections={address: status["connections"]["current"] for address, status in statuses.items()},
            collections=collections,
            operations_per_second=round(self._operations(statuses) / elapsed, 1),
            log_lines_per_second={
                level: round(count / elapsed, 2) for level, count in self._new_lines().items()
            },
        )
        self.samples.append(sample)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(sample)) + "\n")

    def new_samples(self) -> list[history.Sample]:
        """For the checker: what was counted since this was asked last, the first look of all left out."""
        new, self._told = self.samples[max(self._told, 1) :], len(self.samples)
        return [
            history.Sample(
                what=f"the soak was in its second {sample.second:.0f}",
                at=sample.second,
                operations=sample.operations_per_second,
                log_lines=sum(sample.log_lines_per_second.values()),
            )
            for sample in new
        ]

    def _processes(self) -> dict[str, ProcessFacts]:
        pids = {post.name: post.process.pid for post in self._stage.posts.values() if post.process.is_running}
        for number, member in enumerate(self._stage.replica_set.members):
            if member.is_running:
                pids[f"mongod{number}"] = member.pid
        facts = {name: facts_of(pid) for name, pid in {**pids, "harness": None}.items()}
        return {name: found for name, found in facts.items() if found is not None}

    def _new_lines(self) -> Counter[str]:
        self._logs.look()
        new = Counter(self._logs.levels)
        new.subtract(self._last_lines)
        self._last_lines = Counter(self._logs.levels)
        return new

    def _operations(self, statuses: Mapping[str, Mapping[str, Any]]) -> int:
        """How many since the last sample; of a server that began anew, all."""
        total = 0
        for address, status in statuses.items():
            count = sum(status["opcounters"][name] for name in _COUNTERS)
            before = self._last_operations.get(address, count)
            total += count - before if count >= before else count
            self._last_operations[address] = count
        return total

    async def _collections(self) -> dict[str, CollectionSize]:
        found = {}
        try:
            for name in _COLLECTIONS:
                stats = await self._whole[self._stage.fleet.database].command("collStats", name)
                found[name] = CollectionSize(
                    documents=stats["count"], data=stats["size"], indexes=stats.get("indexSizes", {})
                )
        except PyMongoError:
            return {}
        return found


async def _server_status(client: AsyncMongoClient[dict[str, Any]]) -> Mapping[str, Any] | None:
    try:
        return await client.admin.command("serverStatus")
    except PyMongoError:
        return None
