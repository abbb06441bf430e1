"""FleetMetrics: the fleet's statistics and counters as Prometheus metrics."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from agent_service.domain.service_state import BreakerState
from agent_service.insights import FleetStatistics, ServiceStatistics
from agent_service.store.workers import SignOfLife
from agent_service.telemetry.metrics import BOUNDS, Counted, Histogram

_PREFIX = "agent_service"
_QUEUE = ("service", "queue")
_COUNTERS = {
    Counted.SUBMITTED: ("requests_submitted", "Requests that were stored, by the queue of their first step."),
    Counted.CLAIM: ("claims", "Claims that took at least one context."),
    Counted.CLAIMED: ("contexts_claimed", "Contexts that were claimed."),
    Counted.LEASE_LOST: ("leases_lost", "Attempts whose worker noticed that their lease was lost."),
    Counted.RESCUED: ("contexts_rescued", "Contexts taken back from workers that had fallen silent."),
}


class FleetMetrics(Collector):
    """
    Shows the statistics that it was given last, and whether there are any.

    Every series is of a service, of a queue of one, or of a loop; none is of a request, an organization or a
    worker.
    """

    def __init__(self) -> None:
        self._statistics: FleetStatistics | None = None

    def show(self, statistics: FleetStatistics | None) -> None:
        """What the next `collect` tells; None where MongoDB gave no answer."""
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics of the fleet."""
        up = GaugeMetricFamily(f"{_PREFIX}_mongodb_up", "Whether MongoDB answered this scrape.")
        up.add_metric([], float(self._statistics is not None))
        yield up
        if self._statistics is None:
            return
        yield from _of_queues(self._statistics)
        yield from _of_services(self._statistics.services)
        yield from _of_workers(self._statistics.workers)
        yield from _counters(self._statistics)
        yield from _histograms(self._statistics)


def _of_queues(statistics: FleetStatistics) -> Iterator[Metric]:
    contexts = _gauge("queue_contexts", "Contexts that have not ended, by status.", *_QUEUE, "status")
    ready = _gauge(
        "queue_ready", "Contexts that a worker would take now: none while a service is held.", *_QUEUE
    )
    age = _gauge("queue_oldest_age_seconds", "How long the oldest pending context has waited.", *_QUEUE)
    for service in statistics.services:
        for queue in service.queues:
            name = [service.service, queue.queue]
            for status in ("pending", "scheduled", "blocked", "running"):
                contexts.add_metric([*name, status], getattr(queue, status))
            ready.add_metric(name, queue.pending if service.may_be_called else 0)
            oldest = queue.oldest_pending
            age.add_metric(name, 0.0 if oldest is None else oldest.total_seconds())
    yield from (contexts, ready, age)


def _of_services(services: Iterable[ServiceStatistics]) -> Iterator[Metric]:
    holds = _gauge("service_holds", "Holds on a service, an open breaker among them.", "service")
    breaker = _gauge("breaker_state", "1 for the state that the breaker is in.", "service", "state")
    for service in services:
        holds.add_metric([service.service], len(service.holds))
        for state in BreakerState:
            breaker.add_metric([service.service, state.value], float(service.breaker.state is state))
    yield from (holds, breaker)


def _of_workers(workers: Iterable[SignOfLife]) -> Iterator[Metric]:
    online = _gauge(
        "workers_online", "Workers that gave a sign of life lately, by version.", "service", "version"
    )
    slots = _gauge("worker_slots", "Slots of living workers.", "service", "state")
    lag = _gauge("worker_loop_lag_seconds", "The longest that an event loop stood still lately.", "service")
    by_version: dict[tuple[str, str], int] = {}
    of_service: dict[str, list[SignOfLife]] = {}
    for worker in workers:
        key = (worker.service, worker.version)
        by_version[key] = by_version.get(key, 0) + 1
        of_service.setdefault(worker.service, []).append(worker)
    for labels, number in by_version.items():
        online.add_metric(labels, number)
    for service, signs in of_service.items():
        slots.add_metric([service, "running"], sum(sign.running for sign in signs))
        slots.add_metric([service, "free"], sum(max(sign.concurrency - sign.running, 0) for sign in signs))
        lag.add_metric([service], max(sign.loop_lag for sign in signs).total_seconds())
    yield from (online, slots, lag)


def _counters(statistics: FleetStatistics) -> Iterator[Metric]:
    for counted, (name, about) in _COUNTERS.items():
        family = CounterMetricFamily(f"{_PREFIX}_{name}", about, labels=_QUEUE)
        for queue, counts in statistics.counters.items():
            family.add_metric(queue, counts.events.get(counted, 0))
        yield family
    failures = CounterMetricFamily(
        f"{_PREFIX}_loop_failures",
        "Loops of processes that ended although nobody asked them to, by what they do.",
        labels=("loop",),
    )
    for loop, number in statistics.loop_failures.items():
        failures.add_metric([loop], number)
    yield failures
    attempts = CounterMetricFamily(
        f"{_PREFIX}_attempts", "Attempts whose end was written, by outcome.", labels=(*_QUEUE, "outcome")
    )
    for queue, counts in statistics.counters.items():
        for outcome, number in counts.attempts().items():
            attempts.add_metric([*queue, outcome.value], number)
    yield attempts


def _histograms(statistics: FleetStatistics) -> Iterator[Metric]:
    waits = _histogram("queue_wait_seconds", "From when a context could be claimed to its claim.", *_QUEUE)
    durations = _histogram("step_duration_seconds", "How long attempts took.", *_QUEUE, "outcome")
    for queue, counts in statistics.counters.items():
        waits.add_metric(queue, _buckets(counts.waits), counts.waits.sum)
        for outcome, histogram in counts.durations.items():
            durations.add_metric([*queue, outcome.value], _buckets(histogram), histogram.sum)
    yield from (waits, durations)


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=labels)


def _histogram(name: str, about: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"{_PREFIX}_{name}", about, labels=labels)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """How many were no longer than each bound, the last bound being none."""
    bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
