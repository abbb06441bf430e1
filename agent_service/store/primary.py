"""The primary of a replica set, as a client knows it."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from loguru import logger
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import (
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from pymongo.topology_description import TopologyDescription

#: The primaries in what clients knew: each submission asks, and clients make another one of what they hear.
_primaries: WeakKeyDictionary[TopologyDescription, str | None] = WeakKeyDictionary()


class PrimaryListener(TopologyListener):
    """Calls `on_new_primary` when a client finds another primary than it knew before; after none, any is."""

    def __init__(self, on_new_primary: Callable[[], None]) -> None:
        self._on_new_primary = on_new_primary

    def opened(self, event: TopologyOpenedEvent) -> None:
        """Nothing is known yet."""

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """Compare what the client knew with what it knows."""
        found = _primary_in(event.new_description)
        if found is None or found == _primary_in(event.previous_description):
            return
        try:
            self._on_new_primary()
        except Exception:
            # The driver would print it to stderr, past the log.
            logger.exception("hearing of a new primary failed")

    def closed(self, event: TopologyClosedEvent) -> None:
        """Nothing more is told."""


def primary_of(database: AsyncDatabase[Any]) -> str | None:
    """The primary that the client knows of, as host and election, without asking; None if it knows none."""
    topology = database.client.topology_description
    if topology not in _primaries:
        _primaries[topology] = _primary_in(topology)
    return _primaries[topology]


def _primary_in(topology: TopologyDescription) -> str | None:
    for server in topology.server_descriptions().values():
        if server.is_writable:
            return f"{server.me}/{server.election_id}"
    return None
