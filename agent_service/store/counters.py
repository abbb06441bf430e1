"""
Counters: what the whole fleet has done since its first day, in the collection `counters`.

Each process adds what it has counted now and then, so a sum never goes back when a worker vanishes; what a
killed process had not told yet, a few seconds of counting, is missing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from agent_service.domain.context import AttemptOutcome
from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.request import Request
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.paging import decode_all
from agent_service.telemetry.metrics import BOUNDS, Counted, Histogram, QueueName, Tally, WorkCounts

#: More queues than these are not shown.
_MOST_QUEUES = 1_000
#: The document that counts the failures of loops, of all processes together.
_LOOPS = "loops"


class CounterCollection:
    """
    One document for each service and queue, and one for the loops of all processes.

    `tally` holds what this process has not told yet.
    """

    def __init__(self, database: Database) -> None:
        self._counters = durable(database, "counters")
        self.tally = Tally()

    def count_submitted(self, request: Request) -> None:
        """Count a request that was stored, with the queue of its first step."""
        first = request.submission.steps[0]
        self.tally.of(first.service, first.queue).count(Counted.SUBMITTED)

    async def tell(self) -> None:
        """
        Add what this process has counted; nothing is sent where nothing was.

        Raises `StoreUnavailable`, after which it is told the next time, or `WriteOutcomeUnknown`: then it may
        have been added, and is not added again, because a counter too low misleads less than one too high.
        """
        for name, counts in self.tally.take():
            try:
                with writing():
                    await self._counters.update_one(
                        {"_id": f"{name.service}/{name.queue}"},
                        {
                            "$inc": dict(_increments(counts)),
                            "$setOnInsert": {"schema": SCHEMA, **name._asdict()},
                        },
                        upsert=True,
                    )
            except StoreUnavailable:
                self.tally.put_back(name, counts)
                raise
        await self._tell_loop_failures()

    async def _tell_loop_failures(self) -> None:
        failures = Counter(self.tally.loop_failures)
        if not failures:
            return
        self.tally.loop_failures.clear()
        increments = {f"failures.{name}": number for name, number in failures.items()}
        try:
            with writing():
                await self._counters.update_one(
                    {"_id": _LOOPS}, {"$inc": increments, "$setOnInsert": {"schema": SCHEMA}}, upsert=True
                )
        except StoreUnavailable:
            self.tally.loop_failures.update(failures)
            raise

    async def all(self) -> dict[QueueName, WorkCounts]:
        """What has been told so far of queues. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            found = await self._counters.find({"_id": {"$ne": _LOOPS}}, limit=_MOST_QUEUES).to_list(None)
        return dict(decode_all(found, _counts_of))

    async def loop_failures(self) -> Mapping[str, int]:
        """How often loops of each name have failed, in all processes. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            found = await self._counters.find_one({"_id": _LOOPS})
        failures = (found or {}).get("failures")
        if not isinstance(failures, Mapping):
            return {}
        return {name: number for name, number in failures.items() if isinstance(number, int)}


def _increments(counts: WorkCounts) -> Iterator[tuple[str, float]]:
    """What is added, by dotted field."""
    for event, number in counts.events.items():
        yield f"events.{event.value}", number
    yield from _histogram_increments("waits", counts.waits)
    for outcome, durations in counts.durations.items():
        yield from _histogram_increments(f"durations.{outcome.value}", durations)


def _histogram_increments(name: str, histogram: Histogram) -> Iterator[tuple[str, float]]:
    if histogram.count:
        yield f"{name}.sum", histogram.sum
        for bucket, number in enumerate(histogram.counts):
            if number:
                yield f"{name}.buckets.{bucket}", number


def _counts_of(document: Document) -> tuple[QueueName, WorkCounts]:
    # Another version may count what this one does not know.
    events, durations = document.get("events") or {}, document.get("durations") or {}
    return QueueName(document["service"], document["queue"]), WorkCounts(
        events={event: int(events[event.value]) for event in Counted if event.value in events},
        waits=_histogram_of(document.get("waits")),
        durations={
            outcome: _histogram_of(durations[outcome.value])
            for outcome in AttemptOutcome
            if outcome.value in durations
        },
    )


def _histogram_of(stored: Mapping[str, Any] | None) -> Histogram:
    stored = stored or {}
    buckets = stored.get("buckets") or {}
    counts = [int(buckets.get(str(bucket), 0)) for bucket in range(len(BOUNDS) + 1)]
    return Histogram(counts=counts, sum=float(stored.get("sum", 0.0)))
