"""Ending requests by hand, as a settler does."""

from collections.abc import Mapping
from datetime import datetime

from agent_service.domain.request import RequestStatus
from agent_service.store import Store


async def end(
    store: Store, statuses: Mapping[str, RequestStatus], *, at: datetime, expires_at: datetime
) -> None:
    """End requests, and let what belongs to them expire."""
    await store.settlement.write_statuses(statuses, at=at, expires_at=expires_at)
    await store.settlement.let_expire(list(statuses), requests_expire_at=expires_at)
