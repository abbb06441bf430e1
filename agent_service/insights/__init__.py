"""Insights: the fleet as operators see it, read from MongoDB; of all organizations together, never of one."""

from agent_service.insights.fleet_health import FleetHealth, UnservedQueue, living_workers
from agent_service.insights.fleet_statistics import (
    EndedLately,
    FleetStatistics,
    Latency,
    QueueStatistics,
    ServiceStatistics,
)
from agent_service.insights.reader import Insights

__all__ = [
    "EndedLately",
    "FleetHealth",
    "FleetStatistics",
    "Insights",
    "Latency",
    "QueueStatistics",
    "ServiceStatistics",
    "UnservedQueue",
    "living_workers",
]
