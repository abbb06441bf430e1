"""
Counters: what the whole fleet has done since its first day, in the collection `counters`.

Each process adds what it has counted now and then, so a sum never goes back when a worker vanishes; what a
killed process had not told yet, a few seconds of counting, is missing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from agent_service.domain.context import AttemptOutcome
from agent_service.domain.errors import StoreUnavailable
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.paging import decode_all
from agent_service.telemetry.metrics import BOUNDS, Counted, Histogram, QueueName, Tally, WorkCounts

#: More queues than these are not shown.
_MOST_QUEUES = 1_000


class CounterCollection:
    """One document for each service and queue; `tally` holds what this process has not told yet."""

    def __init__(self, database: Database) -> None:
        self._counters = durable(database, "counters")
        self.tally = Tally()

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

    async def all(self) -> dict[QueueName, WorkCounts]:
        """What has been told so far. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            found = await self._counters.find({}, limit=_MOST_QUEUES).to_list(None)
        return dict(decode_all(found, _counts_of))


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
    if not isinstance(document["service"], str) or not isinstance(document["queue"], str):
        raise TypeError("the name of a queue is no text")
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
