"""FleetHealthAnswer and FleetStatisticsAnswer: the fleet as an operator is shown it; times are in seconds."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import orjson

from agent_service.api.request_answer import Moment, moment
from agent_service.domain.service_state import BreakerState, Hold
from agent_service.insights import (
    EndedLately,
    FleetHealth,
    FleetStatistics,
    Latency,
    QueueStatistics,
    ServiceStatistics,
)
from agent_service.store.workers import SignOfLife


@dataclass(frozen=True, slots=True, kw_only=True)
class LivingWorkerAnswer:
    """A worker that gave a sign of life within 45 s."""

    id: str
    service: str
    queues: tuple[str, ...]
    seen_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedQueueAnswer:
    """A queue with contexts that can be claimed, and nobody to claim them."""

    service: str
    queue: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHealthAnswer:
    """Healthy while every queue with contexts that can be claimed has a living worker."""

    status: Literal["healthy", "unhealthy"]
    workers_online: int
    workers: tuple[LivingWorkerAnswer, ...]
    unserved: tuple[UnservedQueueAnswer, ...]

    def to_json(self) -> bytes:
        """The body of an answer."""
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAnswer:
    """Why a service is not called now; without `until`, until somebody lifts it."""

    name: str
    reason: str
    since: Moment
    until: Moment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedLatelyAnswer:
    """How many contexts ended within the last `window_seconds`, and how."""

    window_seconds: float
    completed: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyAnswer:
    """Half of the sample took no longer than `p50` seconds, and 95 % of it no longer than `p95`."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatisticsAnswer:
    """
    One queue of a service; `pending` can be claimed now.

    `queue_wait_seconds` (from when a context first could be claimed to when it was) and `duration_seconds`
    (of the attempt that completed it) are of the last `sampled` contexts, 100 at most, that completed within
    the longest window. `attempts` counts all that ever ended, by outcome.
    """

    queue: str
    pending: int
    scheduled: int
    blocked: int
    running: int
    oldest_pending_seconds: float | None
    ended: tuple[EndedLatelyAnswer, ...]
    sampled: int
    queue_wait_seconds: LatencyAnswer | None
    duration_seconds: LatencyAnswer | None
    attempts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatisticsAnswer:
    """One service, whether it may be called now and what speaks against it, and its queues."""

    service: str
    may_be_called: bool
    breaker: BreakerState
    holds: tuple[HoldAnswer, ...]
    queues: tuple[QueueStatisticsAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatisticsAnswer:
    """A living worker; `running` of its `concurrency` slots are taken."""

    id: str
    service: str
    queues: tuple[str, ...]
    host: str
    pid: int
    version: str
    concurrency: int
    running: int
    loop_lag_seconds: float
    #: Why its process is unhealthy, such as a loop that failed; empty if it is not.
    trouble: str
    started_at: Moment
    seen_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatisticsAnswer:
    """The fleet at a moment; one reading serves all who ask within a second, or longer where it took long."""

    at: Moment
    services: tuple[ServiceStatisticsAnswer, ...]
    workers: tuple[WorkerStatisticsAnswer, ...]

    def to_json(self) -> bytes:
        """The body of an answer."""
        return orjson.dumps(self)


def health_answer(health: FleetHealth) -> FleetHealthAnswer:
    """The health of the fleet as it is shown."""
    return FleetHealthAnswer(
        status="healthy" if health.healthy else "unhealthy",
        workers_online=len(health.workers),
        workers=tuple(
            LivingWorkerAnswer(
                id=worker.id, service=worker.service, queues=worker.queues, seen_at=moment(worker.seen_at)
            )
            for worker in health.workers
        ),
        unserved=tuple(
            UnservedQueueAnswer(service=queue.service, queue=queue.queue, reason=queue.reason)
            for queue in health.unserved
        ),
    )


def statistics_answer(statistics: FleetStatistics) -> FleetStatisticsAnswer:
    """The statistics of the fleet as they are shown."""
    return FleetStatisticsAnswer(
        at=moment(statistics.at),
        services=tuple(_service(service) for service in statistics.services),
        workers=tuple(_worker(worker) for worker in statistics.workers),
    )


def _service(service: ServiceStatistics) -> ServiceStatisticsAnswer:
    return ServiceStatisticsAnswer(
        service=service.service,
        may_be_called=service.may_be_called,
        breaker=service.breaker.state,
        holds=tuple(_hold(hold) for hold in service.holds),
        queues=tuple(_queue(queue) for queue in service.queues),
    )


def _queue(queue: QueueStatistics) -> QueueStatisticsAnswer:
    oldest = queue.oldest_pending
    return QueueStatisticsAnswer(
        queue=queue.queue,
        pending=queue.pending,
        scheduled=queue.scheduled,
        blocked=queue.blocked,
        running=queue.running,
        oldest_pending_seconds=None if oldest is None else _seconds(oldest),
        ended=tuple(_ended(ended) for ended in queue.ended),
        sampled=queue.sampled,
        queue_wait_seconds=_latency(queue.queue_wait),
        duration_seconds=_latency(queue.duration),
        attempts={outcome.value: number for outcome, number in queue.attempts.items()},
    )


def _worker(worker: SignOfLife) -> WorkerStatisticsAnswer:
    return WorkerStatisticsAnswer(
        id=worker.id,
        service=worker.service,
        queues=worker.queues,
        host=worker.host,
        pid=worker.pid,
        version=worker.version,
        concurrency=worker.concurrency,
        running=worker.running,
        loop_lag_seconds=_seconds(worker.loop_lag),
        trouble=worker.trouble,
        started_at=moment(worker.started_at),
        seen_at=moment(worker.seen_at),
    )


def _hold(hold: Hold) -> HoldAnswer:
    return HoldAnswer(
        name=hold.name, reason=hold.reason, since=moment(hold.since), until=_moment_or_none(hold.until)
    )


def _ended(ended: EndedLately) -> EndedLatelyAnswer:
    return EndedLatelyAnswer(
        window_seconds=_seconds(ended.window),
        completed=ended.completed,
        failed=ended.failed,
        cancelled=ended.cancelled,
    )


def _latency(latency: Latency | None) -> LatencyAnswer | None:
    return None if latency is None else LatencyAnswer(p50=_seconds(latency.p50), p95=_seconds(latency.p95))


def _moment_or_none(at: datetime | None) -> str | None:
    return None if at is None else moment(at)


def _seconds(length: timedelta) -> float:
    """In seconds, to the millisecond, which is what MongoDB keeps."""
    return round(length.total_seconds(), 3)
