"""The fleet's statistics as Prometheus metrics."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from agent_service.api.fleet_metrics import FleetMetrics
from agent_service.domain.context import AttemptOutcome
from agent_service.domain.service_state import Breaker, BreakerState, Hold
from agent_service.insights import FleetStatistics, QueueStatistics, ServiceStatistics
from agent_service.telemetry.metrics import Counted, QueueName, WorkCounts
from tests.support.contexts import NOW, SECOND
from tests.support.fleets import a_sign_at

DEFAULT = {"service": "generation", "queue": "default"}
QUEUE = QueueStatistics(
    queue="default",
    pending=1,
    scheduled=2,
    blocked=3,
    running=4,
    oldest_pending=timedelta(seconds=9),
    ended=(),
    sampled=0,
    queue_wait=None,
    duration=None,
    attempts={},
)
SERVICE = ServiceStatistics(
    service="generation", may_be_called=True, holds=(), breaker=Breaker(), queues=(QUEUE,)
)
WORKER = a_sign_at(NOW, id="w", started_at=NOW - SECOND)


def some_counts() -> WorkCounts:
    counts = WorkCounts()
    counts.count(Counted.CLAIM, 2)
    counts.ended(AttemptOutcome.COMPLETED, waited=0.2, took=3)
    counts.ended(AttemptOutcome.COMPLETED, waited=0.01, took=1_000)
    counts.ended(AttemptOutcome.RETRYING, waited=0.3, took=0.5)
    return counts


STATISTICS = FleetStatistics(
    at=NOW,
    services=(SERVICE,),
    workers=(WORKER, replace(WORKER, id="v", running=12, version="1.2.4", loop_lag=SECOND)),
    counters={QueueName("generation", "default"): some_counts()},
)


def value_of(statistics: FleetStatistics | None, name: str, **labels: str) -> float | None:
    metrics, registry = FleetMetrics(), CollectorRegistry()
    registry.register(metrics)
    metrics.show(statistics)
    return registry.get_sample_value(f"agent_service_{name}", labels)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("mongodb_up", {}, 1),
        ("queue_contexts", {**DEFAULT, "status": "pending"}, 1),
        ("queue_contexts", {**DEFAULT, "status": "scheduled"}, 2),
        ("queue_contexts", {**DEFAULT, "status": "blocked"}, 3),
        ("queue_contexts", {**DEFAULT, "status": "running"}, 4),
        ("queue_ready", DEFAULT, 1),
        ("queue_oldest_age_seconds", DEFAULT, 9),
        ("service_holds", {"service": "generation"}, 0),
        ("breaker_state", {"service": "generation", "state": "closed"}, 1),
        ("breaker_state", {"service": "generation", "state": "open"}, 0),
        ("workers_online", {"service": "generation", "version": "1.2.3"}, 1),
        ("workers_online", {"service": "generation", "version": "1.2.4"}, 1),
        ("worker_slots", {"service": "generation", "state": "running"}, 15),
        ("worker_slots", {"service": "generation", "state": "free"}, 7),
        ("worker_loop_lag_seconds", {"service": "generation"}, 1),
        ("claims_total", DEFAULT, 2),
        ("contexts_rescued_total", DEFAULT, 0),
        ("attempts_total", {**DEFAULT, "outcome": "completed"}, 2),
        ("attempts_total", {**DEFAULT, "outcome": "retrying"}, 1),
        ("queue_wait_seconds_bucket", {**DEFAULT, "le": "0.05"}, 1),
        ("queue_wait_seconds_bucket", {**DEFAULT, "le": "0.25"}, 2),
        ("queue_wait_seconds_bucket", {**DEFAULT, "le": "+Inf"}, 3),
        ("queue_wait_seconds_count", DEFAULT, 3),
        ("queue_wait_seconds_sum", DEFAULT, pytest.approx(0.51)),
        ("step_duration_seconds_bucket", {**DEFAULT, "outcome": "completed", "le": "640.0"}, 1),
        ("step_duration_seconds_bucket", {**DEFAULT, "outcome": "completed", "le": "+Inf"}, 2),
        ("step_duration_seconds_sum", {**DEFAULT, "outcome": "retrying"}, 0.5),
    ],
)
def test_each_number_has_its_series(name: str, labels: dict[str, str], value: float) -> None:
    assert value_of(STATISTICS, name, **labels) == value


def test_nothing_is_ready_while_a_service_is_held() -> None:
    hold = Hold(name="paused", reason="new model", since=NOW, until=None)
    opened = replace(SERVICE, may_be_called=False, holds=(hold,), breaker=Breaker(state=BreakerState.OPEN))
    held = replace(STATISTICS, services=(opened,))
    assert value_of(held, "queue_ready", **DEFAULT) == 0
    assert value_of(held, "queue_contexts", **DEFAULT, status="pending") == 1
    assert value_of(held, "service_holds", service="generation") == 1
    assert value_of(held, "breaker_state", service="generation", state="open") == 1


def test_an_empty_queue_has_an_age_of_zero() -> None:
    empty = replace(QUEUE, pending=0, oldest_pending=None)
    statistics = replace(STATISTICS, services=(replace(SERVICE, queues=(empty,)),))
    assert value_of(statistics, "queue_oldest_age_seconds", **DEFAULT) == 0


def test_without_mongodb_only_that_is_told() -> None:
    metrics = FleetMetrics()
    assert [family.name for family in metrics.collect()] == ["agent_service_mongodb_up"]
    assert value_of(None, "mongodb_up") == 0


def test_no_series_is_of_a_worker_a_request_or_an_organization() -> None:
    metrics = FleetMetrics()
    metrics.show(STATISTICS)
    labels = {name for family in metrics.collect() for sample in family.samples for name in sample.labels}
    assert labels == {"service", "queue", "status", "state", "outcome", "version", "le"}
