"""Insights: what operators ask about the fleet, each answer shared by all who ask within a second."""

from functools import partial

from agent_service.insights.fleet_health import FleetHealth, read_health
from agent_service.insights.fleet_statistics import FleetStatistics, read_statistics
from agent_service.insights.shared_reading import SharedReading
from agent_service.store import Store


class Insights:
    """
    The fleet as it is in MongoDB, whoever asks: health, and statistics.

    Both raise `StoreUnavailable`, and are a second old at most, or ten times as old as it took to read them.
    """

    def __init__(self, store: Store) -> None:
        self._health = SharedReading(partial(read_health, store))
        self._statistics = SharedReading(partial(read_statistics, store))

    async def health(self) -> FleetHealth:
        """The living workers, and the queues where contexts wait in vain."""
        return await self._health.get()

    async def statistics(self) -> FleetStatistics:
        """How much waits, runs and has ended, how long that takes, who works, and what is held."""
        return await self._statistics.get()
