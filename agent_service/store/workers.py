"""Workers: the last sign of life of each, in the collection `workers`."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.paging import decode_all
from agent_service.store.roster import Colleague
from agent_service.store.stored_fields import WORKER

#: A worker that has been silent for this long counts as gone: three of its signs of life.
SILENT_AFTER = timedelta(seconds=45)
#: A silent worker is forgotten after this long.
FORGOTTEN_AFTER = timedelta(days=1)
#: What a worker says that claims line by line.
BY_LINES = "lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOfLife:
    """What a worker says of itself; `id` is a fresh UUID of each start, never a host's name."""

    id: str
    service: str
    queues: tuple[str, ...]
    host: str
    pid: int
    #: Which process it is in, and of how many that were started together for the same work.
    process: int = 1
    processes: int = 1
    concurrency: int
    running: int
    #: The longest time in the last minute that the event loop of its process stood still.
    loop_lag: timedelta = timedelta(0)
    #: Why its process is unhealthy: which loop failed; empty if it is not.
    trouble: str = ""
    #: The version of agent_service that it runs; empty where it did not say.
    version: str = ""
    #: What it needs of the indexes to claim; empty where it did not say, as older versions do.
    claims_by: str = ""
    started_at: datetime
    seen_at: datetime


class WorkerCollection:
    """The collection `workers`; nothing about claims or leases is decided from it."""

    def __init__(self, database: Database) -> None:
        self._workers = durable(database, "workers")

    async def report(self, sign: SignOfLife) -> None:
        """Store the latest sign of life. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing():
            await self._workers.update_one(
                {"_id": sign.id},
                {
                    "$set": {
                        "schema": SCHEMA,
                        "service": sign.service,
                        "queues": list(sign.queues),
                        "host": sign.host,
                        "pid": sign.pid,
                        "process": sign.process,
                        "processes": sign.processes,
                        "concurrency": sign.concurrency,
                        "running": sign.running,
                        "loop_lag": sign.loop_lag.total_seconds(),
                        "trouble": sign.trouble,
                        "version": sign.version,
                        "claims_by": sign.claims_by,
                        "started_at": sign.started_at,
                        "seen_at": sign.seen_at,
                        "expires_at": sign.seen_at + FORGOTTEN_AFTER,
                    }
                },
                upsert=True,
            )

    async def remove(self, worker_id: str) -> None:
        """Forget a worker that has stopped. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing():
            await self._workers.delete_one({"_id": worker_id})

    async def present(self, now: datetime) -> list[Colleague]:
        """The workers that do not count as gone. Raises `StoreUnavailable`."""
        return [
            Colleague(
                id=sign.id,
                service=sign.service,
                queues=frozenset(sign.queues),
                process=f"{sign.host}:{sign.pid}",
            )
            for sign in await self.seen_since(now - SILENT_AFTER)
        ]

    async def seen_since(self, since: datetime) -> list[SignOfLife]:
        """The workers that gave a sign of life since then. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            # An index has the date at which it is forgotten.
            found = self._workers.find({"expires_at": {"$gte": since + FORGOTTEN_AFTER}})
            return decode_all(await found.to_list(None), _sign_of)


def _sign_of(document: Document) -> SignOfLife:
    WORKER.check(document)
    return SignOfLife(
        id=document["_id"],
        service=document["service"],
        queues=tuple(document["queues"]),
        host=document["host"],
        pid=document["pid"],
        process=document.get("process") or 1,
        processes=document.get("processes") or 1,
        concurrency=document["concurrency"],
        running=document["running"],
        loop_lag=timedelta(seconds=document.get("loop_lag") or 0),
        trouble=document.get("trouble") or "",
        version=document.get("version") or "",
        claims_by=document.get("claims_by") or "",
        started_at=document["started_at"],
        seen_at=document["seen_at"],
    )
