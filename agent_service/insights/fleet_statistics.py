"""FleetStatistics: what waits, runs and ended lately in each queue, who works, and what holds a service."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.service_state import Breaker, Hold, ServiceState, breaker_at, holds_of, permission
from agent_service.insights.fleet_health import living_workers
from agent_service.store import Store
from agent_service.store.workers import SignOfLife
from agent_service.telemetry.metrics import QueueName, WorkCounts

#: What ended is told for the last minute, the last five and the last fifteen.
WINDOWS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))
#: Latencies are those of so many contexts that completed last, none longer ago than the longest window.
SAMPLE = 100
#: More queues than these are not counted.
MOST_QUEUES = 200
_WAITING = (ContextStatus.PENDING, ContextStatus.SCHEDULED, ContextStatus.BLOCKED)
_ENDS = (ContextStatus.COMPLETED, ContextStatus.FAILED, ContextStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedLately:
    """How many contexts ended within the last `window`, and how."""

    window: timedelta
    completed: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Half of the sample took no longer than `p50`, and 95 % of it no longer than `p95`."""

    p50: timedelta
    p95: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """
    One queue of one service.

    `queue_wait` is the time from when a context first could be claimed to when it first was, `duration` that
    of the attempt that completed it; both of the last `sampled` contexts, and None where there are none.
    """

    queue: str
    pending: int
    scheduled: int
    blocked: int
    running: int
    #: How long the context has been claimable that has waited longest; None where none waits.
    oldest_pending: timedelta | None
    ended: tuple[EndedLately, ...]
    sampled: int
    queue_wait: Latency | None
    duration: Latency | None
    #: How many attempts ended in each way, ever; told every fifteen seconds or so.
    attempts: Mapping[AttemptOutcome, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatistics:
    """
    One service: its queues, and what keeps it from being called.

    A breaker whose time has passed is still open, and the service may be called all the same, by a probe.
    """

    service: str
    may_be_called: bool
    holds: tuple[Hold, ...]
    breaker: Breaker
    queues: tuple[QueueStatistics, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """The fleet at one moment, about: each number is exact, and read a few milliseconds after another."""

    at: datetime
    services: tuple[ServiceStatistics, ...]
    workers: tuple[SignOfLife, ...]
    #: What the whole fleet has done since its first day.
    counters: Mapping[QueueName, WorkCounts]
    #: How often loops of each name have failed, in all processes.
    loop_failures: Mapping[str, int] = field(default_factory=dict)


async def read_statistics(store: Store) -> FleetStatistics:
    """Read everything, one queue after the other. Raises `StoreUnavailable`."""
    workers = await living_workers(store)
    counters = await store.counters.all()
    states = {state.service: state for state in await store.services.all()}
    served = {QueueName(worker.service, queue) for worker in workers for queue in worker.queues}
    queues = sorted({*await store.statistics.queues(), *served})[:MOST_QUEUES]
    running = await store.statistics.running()
    now = store.clock.now()
    read = {
        name: await _read_queue(
            store, name, counters.get(name, WorkCounts()), running=running.get(name, 0), now=now
        )
        for name in queues
    }
    services = sorted({*states, *(name.service for name in queues)})
    return FleetStatistics(
        at=now,
        services=tuple(
            _service(
                states.get(service, ServiceState(service=service)),
                [found for name, found in read.items() if name.service == service],
                now,
            )
            for service in services
        ),
        workers=workers,
        counters=counters,
        loop_failures=await store.counters.loop_failures(),
    )


async def _read_queue(
    store: Store, name: QueueName, counts: WorkCounts, *, running: int, now: datetime
) -> QueueStatistics:
    statistics = store.statistics
    pending, scheduled, blocked = await asyncio.gather(
        *(statistics.count(name, status) for status in _WAITING)
    )
    since = await statistics.pending_since(name)
    sample = await statistics.latest(name, since=now - WINDOWS[-1], limit=SAMPLE)
    return QueueStatistics(
        queue=name.queue,
        pending=pending,
        scheduled=scheduled,
        blocked=blocked,
        running=running,
        oldest_pending=None if since is None else max(now - since, timedelta(0)),
        ended=await _ended_lately(store, name, now),
        sampled=len(sample),
        queue_wait=latency_of([context.first_started_at - context.released_at for context in sample]),
        duration=latency_of([context.finished_at - context.started_at for context in sample]),
        attempts=counts.attempts(),
    )


async def _ended_lately(store: Store, name: QueueName, now: datetime) -> tuple[EndedLately, ...]:
    """Each window is what ended since the one before it and all that is in that; no key is counted twice."""
    totals = dict.fromkeys(_ENDS, 0)
    ended = []
    # What another process ended just now may be ahead of our clock.
    before = now + timedelta(minutes=1)
    for window in WINDOWS:
        counts = await asyncio.gather(
            *(
                store.statistics.count_ended(name, status, since=now - window, before=before)
                for status in _ENDS
            )
        )
        for status, count in zip(_ENDS, counts, strict=True):
            totals[status] += count
        ended.append(EndedLately(window=window, **{status.value: totals[status] for status in _ENDS}))
        before = now - window
    return tuple(ended)


def _service(state: ServiceState, queues: Sequence[QueueStatistics], now: datetime) -> ServiceStatistics:
    return ServiceStatistics(
        service=state.service,
        may_be_called=permission(state, now, concurrency=1).limit > 0,
        holds=tuple(sorted(holds_of(state, now), key=lambda hold: hold.name)),
        breaker=breaker_at(state, now),
        queues=tuple(queues),
    )


def latency_of(times: Sequence[timedelta]) -> Latency | None:
    """The percentiles of a sample, by the nearest rank; what two clocks made negative counts as zero."""
    if not times:
        return None
    ordered = sorted(max(time, timedelta(0)) for time in times)

    def percentile(share: float) -> timedelta:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Latency(p50=percentile(0.5), p95=percentile(0.95))
