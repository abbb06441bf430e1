"""MongoDB and nothing else: takes and returns domain objects, one file per noun."""

from agent_service.store.database import Store

__all__ = ["Store"]
